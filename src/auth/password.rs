//! Password hashes: read, made and compared; and passwords made up for people.
//!
//! Promises:
//! - What [`PasswordHash::parse`] accepts can be verified with bounded work: at most 1 GiB of
//!   memory and 100 passes (argon2), or a cost of 16 (bcrypt).
//! - [`PasswordHash::verify`] does the same work for every password, also for one that it refuses
//!   out of hand.
//! - Neither `Debug` nor any error shows a hash or a password.
//!
//! Two peculiarities of bcrypt are decided here. It looks at the first 72 bytes of a password and
//! no further; every tool that makes such hashes does so, and we follow, so that a long password
//! hashed elsewhere goes on working. And it pads with NUL bytes, so that `a` and `a␀a` would be one
//! password; therefore no password with a NUL byte is ever right, whatever the hash.
//!
//! Must not: decide who may log in.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHasher, Version,
    password_hash::{self, phc},
};
use aws_lc_rs::digest::{SHA256, digest};
use prometheus::IntGauge;
use rand::RngExt;
use secrecy::SecretString;
use thiserror::Error;

/// The longest password that is ever compared, in bytes. Longer ones are wrong.
const LONGEST_PASSWORD: usize = 1024;
/// The most memory an argon2 hash may ask for, in KiB: 1 GiB.
const MAX_ARGON2_MEMORY: u32 = 1024 * 1024;
/// The most passes an argon2 hash may ask for.
const MAX_ARGON2_PASSES: u32 = 100;
/// The costs a bcrypt hash may ask for; each step doubles the work.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// Hashes `password` for a users file: argon2id as a PHC string, with a random salt and the
/// parameters that OWASP recommends (19 MiB, 2 passes, 1 lane). Takes tens of milliseconds.
///
/// # Errors
/// [`HashError`] if no client could ever log in with this password, or if the hash can't be made.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    check_usable(password)?;
    Ok(argon2id(Params::DEFAULT)
        .hash_password(password.as_bytes())?
        .to_string())
}

/// Makes up a password of 20 characters (115 bits) that can be read aloud and typed: no `0` and
/// `O`, no `1`, `l`, `i` and `I`, no `o`.
pub fn generate_password() -> SecretString {
    const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = rand::rng();
    let mut letter = || char::from(ALPHABET[random.random_range(0..ALPHABET.len())]);
    let mut password = String::with_capacity(20);
    (0..20).for_each(|_| password.push(letter()));
    password.into()
}

/// Why a password could not be hashed or compared.
#[derive(Debug, Error)]
pub enum HashError {
    /// The password is empty.
    #[error("the password is empty")]
    Empty,
    /// The password is longer than 1024 bytes.
    #[error("the password is longer than {LONGEST_PASSWORD} bytes")]
    TooLong,
    /// The password holds a byte that no FTP client can send as part of it.
    #[error("the password holds a NUL, CR or LF, which FTP cannot carry")]
    Unsendable,
    /// argon2 failed, for want of memory for example.
    #[error("argon2 failed: {0}")]
    Argon2(#[from] password_hash::Error),
    /// argon2 can't work with these parameters.
    #[error("argon2 failed: {0}")]
    Argon2Parameters(#[from] argon2::Error),
    /// bcrypt failed.
    #[error("bcrypt failed: {0}")]
    Bcrypt(#[from] bcrypt::BcryptError),
    /// The system has no memory left.
    #[error("there is no memory for a hash of {kib} KiB")]
    NoMemory {
        /// What the hash needs, in KiB.
        kib: usize,
    },
}

/// The memory that argon2 works in, to be used again: freed blocks of this size would stay with the allocator.
pub(super) struct HashMemory {
    blocks: Vec<Block>,
    /// Shows its bytes, among those of others.
    shown: Option<IntGauge>,
}

impl HashMemory {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            shown: None,
        }
    }

    /// The same, whose bytes a gauge shows.
    pub(super) fn shown_by(gauge: IntGauge) -> Self {
        Self {
            blocks: Vec::new(),
            shown: Some(gauge),
        }
    }

    /// Its size in KiB.
    pub(super) fn kib(&self) -> usize {
        self.blocks.len() * Block::SIZE / 1024
    }

    /// Makes it at least this large, in KiB.
    ///
    /// # Errors
    /// [`HashError::NoMemory`].
    pub(super) fn reserve(&mut self, kib: usize) -> Result<(), HashError> {
        let blocks = kib * 1024 / Block::SIZE;
        if self.blocks.len() < blocks {
            // The old ones first, so that there are never both.
            self.free();
            let reserved = self.blocks.try_reserve_exact(blocks);
            reserved.map_err(|_| HashError::NoMemory { kib })?;
            self.blocks.resize(blocks, Block::default());
            if let Some(gauge) = &self.shown {
                gauge.add(bytes_of(&self.blocks));
            }
        }
        Ok(())
    }

    /// Blocks for one hash with these parameters.
    fn blocks(&mut self, params: &Params) -> Result<&mut [Block], HashError> {
        let count = params.block_count();
        self.reserve(count * Block::SIZE / 1024)?;
        Ok(&mut self.blocks[..count])
    }

    fn free(&mut self) {
        if let Some(gauge) = &self.shown {
            gauge.sub(bytes_of(&self.blocks));
        }
        self.blocks = Vec::new();
    }
}

impl Drop for HashMemory {
    fn drop(&mut self) {
        self.free();
    }
}

fn bytes_of(blocks: &[Block]) -> i64 {
    i64::try_from(blocks.len() * Block::SIZE).unwrap_or(i64::MAX)
}

fn check_usable(password: &str) -> Result<(), HashError> {
    match password {
        "" => Err(HashError::Empty),
        long if long.len() > LONGEST_PASSWORD => Err(HashError::TooLong),
        odd if odd.contains(['\0', '\r', '\n']) => Err(HashError::Unsendable),
        _ => Ok(()),
    }
}

/// What a password may be, for error messages.
pub(super) const ALLOWED_PASSWORDS: &str = "1 to 1024 bytes, none of them NUL, CR or LF";

/// What a password is compared with.
pub(super) enum PasswordHash {
    /// argon2id, argon2i or argon2d.
    Argon2(Box<phc::PasswordHash>),
    /// `$2a$`, `$2b$` or `$2y$`; the three mean the same.
    Bcrypt(String),
    /// No password is right, and finding that out costs as much as one of [`hash_password`]'s.
    Never,
}

/// What [`PasswordHash::parse`] accepts, for error messages.
pub(super) const ALLOWED_HASHES: &str = "argon2 as a PHC string ($argon2id$v=19$m=…,t=…,p=…$…$…) \
     with m up to 1048576 (1 GiB) and t up to 100, or bcrypt ($2a$, $2b$, $2y$) with a cost of 4 to 16; \
     `bucketferry hash-password` makes one";

/// Why a text is not accepted as a password hash. Never holds any of that text.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum UnfitHash {
    #[error("not a password hash that is understood")]
    Unknown,
    #[error("a malformed argon2 hash")]
    MalformedArgon2,
    #[error("a malformed bcrypt hash")]
    MalformedBcrypt,
    #[error("an argon2 hash with m={memory} and t={passes}")]
    DearArgon2 { memory: u32, passes: u32 },
    #[error("a bcrypt hash with a cost of {cost}")]
    BcryptCost { cost: u32 },
}

impl PasswordHash {
    /// Reads a hash as it stands in a users file.
    ///
    /// # Errors
    /// [`UnfitHash`] if it is of another kind, malformed, or too dear to verify.
    pub(super) fn parse(text: &str) -> Result<Self, UnfitHash> {
        if text.starts_with("$argon2") {
            parse_argon2(text)
        } else if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            parse_bcrypt(text)
        } else {
            Err(UnfitHash::Unknown)
        }
    }

    /// A hash of `password` that is cheap to make and to verify (1 MiB, one pass). For passwords
    /// that were given in plain and whose hash never leaves memory: who could steal the hash could
    /// read the password beside it, so a dear hash would only make each login slower.
    ///
    /// # Errors
    /// As [`hash_password`].
    pub(super) fn in_memory(password: &str) -> Result<Self, HashError> {
        check_usable(password)?;
        let params = Params::new(1024, 1, 1, None).map_err(password_hash::Error::from)?;
        Ok(Self::Argon2(Box::new(
            argon2id(params).hash_password(password.as_bytes())?,
        )))
    }

    /// How much memory it takes to verify, in KiB.
    pub(super) fn kib(&self) -> u32 {
        match self {
            Self::Argon2(hash) => Params::try_from(hash.as_ref()).map_or(0, |it| it.m_cost()),
            // 4 KiB, on the stack or freed at once.
            Self::Bcrypt(_) => 0,
            Self::Never => Params::DEFAULT.m_cost(),
        }
    }

    /// Whether `password` is right. Slow on purpose; must not run on the runtime's threads.
    ///
    /// # Errors
    /// [`HashError`] if the comparison itself failed, so that nothing is known of the password.
    pub(super) fn verify(
        &self,
        password: &str,
        memory: &mut HashMemory,
    ) -> Result<bool, HashError> {
        let acceptable = password.len() <= LONGEST_PASSWORD && !password.contains('\0');
        let compared = if acceptable { password } else { "" };
        Ok(self.matches(compared, memory)? && acceptable)
    }

    fn matches(&self, password: &str, memory: &mut HashMemory) -> Result<bool, HashError> {
        match self {
            Self::Argon2(hash) => matches_argon2(hash, password, memory),
            Self::Bcrypt(hash) => Ok(bcrypt::verify(password, hash)?),
            Self::Never => {
                let salt = [0; phc::Salt::RECOMMENDED_LENGTH];
                let hasher = argon2id(Params::DEFAULT);
                let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
                let blocks = memory.blocks(hasher.params())?;
                hasher.hash_password_into_with_memory(
                    password.as_bytes(),
                    &salt,
                    &mut output,
                    blocks,
                )?;
                Ok(false)
            }
        }
    }
}

/// What tells one hash from another: a digest that says nothing of either, nor of the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Bits that nobody can know who does not know the hash.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PasswordHash {
    /// What tells it from others.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let text = match self {
            Self::Argon2(hash) => hash.to_string(),
            Self::Bcrypt(hash) => hash.clone(),
            Self::Never => String::new(),
        };
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// What argon2's own `verify_password` does, in memory of ours.
fn matches_argon2(
    hash: &phc::PasswordHash,
    password: &str,
    memory: &mut HashMemory,
) -> Result<bool, HashError> {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Err(password_hash::Error::PasswordInvalid.into());
    };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash
        .version
        .map_or(Ok(Version::default()), Version::try_from)?;
    let hasher = Argon2::new(algorithm, version, Params::try_from(hash)?);
    let mut output = [0; phc::Output::MAX_LENGTH];
    let output = &mut output[..expected.len()];
    let blocks = memory.blocks(hasher.params())?;
    hasher.hash_password_into_with_memory(password.as_bytes(), salt, output, blocks)?;
    // Compared in constant time.
    Ok(phc::Output::new(output).map_err(password_hash::Error::from)? == *expected)
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

fn argon2id(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn parse_argon2(text: &str) -> Result<PasswordHash, UnfitHash> {
    let hash = phc::PasswordHash::new(text).map_err(|_| UnfitHash::MalformedArgon2)?;
    let params = Params::try_from(&hash).map_err(|_| UnfitHash::MalformedArgon2)?;
    if !is_complete(&hash) {
        return Err(UnfitHash::MalformedArgon2);
    }
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory > MAX_ARGON2_MEMORY || passes > MAX_ARGON2_PASSES {
        return Err(UnfitHash::DearArgon2 { memory, passes });
    }
    Ok(PasswordHash::Argon2(Box::new(hash)))
}

/// Whether nothing is left to defaults, which differ from one implementation to the next.
fn is_complete(hash: &phc::PasswordHash) -> bool {
    Algorithm::try_from(hash.algorithm.as_str()).is_ok()
        && hash
            .version
            .is_some_and(|version| Version::try_from(version).is_ok())
        && ["m", "t", "p"]
            .iter()
            .all(|name| hash.params.get_decimal(*name).is_some())
        && hash.salt.is_some()
        && hash.hash.is_some()
}

fn parse_bcrypt(text: &str) -> Result<PasswordHash, UnfitHash> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| UnfitHash::MalformedBcrypt)?;
    let cost = parts.get_cost();
    if !BCRYPT_COSTS.contains(&cost) {
        return Err(UnfitHash::BcryptCost { cost });
    }
    Ok(PasswordHash::Bcrypt(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parsed(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap()
    }

    fn refused(text: &str) -> UnfitHash {
        PasswordHash::parse(text).unwrap_err()
    }

    #[test]
    fn a_made_hash_has_the_recommended_parameters_and_verifies() {
        let text = hash_password("correct horse").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        assert!(
            parsed(&text)
                .verify("correct horse", &mut HashMemory::new())
                .unwrap()
        );
        assert!(
            !parsed(&text)
                .verify("correct hors", &mut HashMemory::new())
                .unwrap()
        );
        assert_ne!(
            text,
            hash_password("correct horse").unwrap(),
            "the salt is random"
        );
    }

    #[test]
    fn passwords_that_no_client_could_send_are_not_hashed() {
        assert!(matches!(hash_password(""), Err(HashError::Empty)));
        assert!(matches!(hash_password("a\0"), Err(HashError::Unsendable)));
        assert!(matches!(hash_password("a\n"), Err(HashError::Unsendable)));
        assert!(matches!(
            hash_password(&"a".repeat(1025)),
            Err(HashError::TooLong)
        ));
        assert!(matches!(
            PasswordHash::in_memory("a\r"),
            Err(HashError::Unsendable)
        ));
    }

    /// Hashes made by other programs: the reference argon2 command, and the vectors of John the
    /// Ripper and `crypt_blowfish` for bcrypt.
    #[test]
    fn hashes_of_other_programs_verify() {
        let argon2i =
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
        assert!(
            parsed(argon2i)
                .verify("password", &mut HashMemory::new())
                .unwrap()
        );
        let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = parsed(&bcrypt.replace("$2a$", prefix));
            assert!(
                hash.verify("U*U", &mut HashMemory::new()).unwrap(),
                "{prefix}"
            );
            assert!(
                !hash.verify("U*V", &mut HashMemory::new()).unwrap(),
                "{prefix}"
            );
        }
    }

    #[test]
    fn memory_is_used_again_and_what_was_in_it_does_not_matter() {
        let hash = parsed(&hash_password("right").unwrap());
        let small = PasswordHash::in_memory("right").unwrap();
        let mut memory = HashMemory::new();
        for _ in 0..2 {
            for hash in [&hash, &small] {
                assert!(hash.verify("right", &mut memory).unwrap());
                assert!(!hash.verify("wrong", &mut memory).unwrap());
            }
            assert!(!PasswordHash::Never.verify("right", &mut memory).unwrap());
            assert_eq!(memory.kib(), 19456);
        }
        assert_eq!((hash.kib(), small.kib()), (19456, 1024));
    }

    #[test]
    fn bcrypt_compares_72_bytes() {
        let hash = parsed(&bcrypt::hash("x".repeat(80), 4).unwrap());
        assert!(
            hash.verify(&"x".repeat(80), &mut HashMemory::new())
                .unwrap()
        );
        assert!(
            hash.verify(&"x".repeat(72), &mut HashMemory::new())
                .unwrap()
        );
        assert!(
            !hash
                .verify(&"x".repeat(71), &mut HashMemory::new())
                .unwrap()
        );
    }

    #[test]
    fn a_password_with_nul_is_always_wrong() {
        let bcrypt = parsed(&bcrypt::hash("a", 4).unwrap());
        assert!(
            bcrypt.matches("a\0a", &mut HashMemory::new()).unwrap(),
            "the confusion that verify must prevent"
        );
        assert!(!bcrypt.verify("a\0a", &mut HashMemory::new()).unwrap());
        let of_nothing = parsed(&bcrypt::hash("", 4).unwrap());
        assert!(!of_nothing.verify("\0", &mut HashMemory::new()).unwrap());
    }

    #[test]
    fn a_password_that_is_too_long_is_always_wrong() {
        let hash = parsed(&bcrypt::hash("x".repeat(72), 4).unwrap());
        assert!(
            hash.verify(&"x".repeat(1024), &mut HashMemory::new())
                .unwrap()
        );
        assert!(
            !hash
                .verify(&"x".repeat(1025), &mut HashMemory::new())
                .unwrap()
        );
        let of_nothing = parsed(&bcrypt::hash("", 4).unwrap());
        assert!(
            !of_nothing
                .verify(&"x".repeat(1025), &mut HashMemory::new())
                .unwrap()
        );
    }

    #[test]
    fn never_is_never_right() {
        assert!(
            !PasswordHash::Never
                .verify("", &mut HashMemory::new())
                .unwrap()
        );
        assert!(
            !PasswordHash::Never
                .verify("password", &mut HashMemory::new())
                .unwrap()
        );
    }

    #[test]
    fn hashes_that_cost_too_much_are_refused() {
        let argon2 = |m, t| {
            format!("$argon2id$v=19$m={m},t={t},p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf")
        };
        parsed(&argon2(1024 * 1024, 100));
        assert_eq!(
            refused(&argon2(1024 * 1024 + 1, 1)),
            UnfitHash::DearArgon2 {
                memory: 1_048_577,
                passes: 1
            }
        );
        assert_eq!(
            refused(&argon2(8, 101)),
            UnfitHash::DearArgon2 {
                memory: 8,
                passes: 101
            }
        );
        // Many lanes would raise the memory above m, were they not bounded by it.
        let lanes =
            "$argon2id$v=19$m=8,t=1,p=16777215$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf";
        assert_eq!(refused(lanes), UnfitHash::MalformedArgon2);
        let bcrypt = bcrypt::hash("a", 4).unwrap();
        parsed(&bcrypt.replace("$04$", "$16$"));
        assert_eq!(
            refused(&bcrypt.replace("$04$", "$17$")),
            UnfitHash::BcryptCost { cost: 17 }
        );
        assert_eq!(
            refused(&bcrypt.replace("$04$", "$03$")),
            UnfitHash::BcryptCost { cost: 3 }
        );
    }

    #[test]
    fn malformed_hashes_are_refused() {
        for unknown in [
            "",
            "secret",
            "$1$abc$def",
            "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        ] {
            assert_eq!(refused(unknown), UnfitHash::Unknown, "{unknown:?}");
        }
        for malformed in [
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf",
            "$argon2id$m=8,t=1,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf",
            "$argon2id$v=20$m=8,t=1,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf",
            "$argon2x$v=19$m=8,t=1,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf",
            "$argon2id$v=19$m=8,t=1,p=1$salt$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf",
        ] {
            assert_eq!(
                refused(malformed),
                UnfitHash::MalformedArgon2,
                "{malformed}"
            );
        }
        assert_eq!(refused("$2b$05$short"), UnfitHash::MalformedBcrypt);
    }

    #[test]
    fn debug_shows_no_hash() {
        let text = bcrypt::hash("a", 4).unwrap();
        assert_eq!(format!("{:?}", parsed(&text)), "PasswordHash(..)");
    }

    #[test]
    fn made_up_passwords_are_typable_and_differ() {
        let made_up = generate_password();
        let password = made_up.expose_secret();
        assert_eq!(password.chars().count(), 20);
        assert!(!password.contains(['0', 'O', '1', 'l', 'i', 'I', 'o']));
        assert!(
            password
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric())
        );
        assert_ne!(password, generate_password().expose_secret());
    }
}
