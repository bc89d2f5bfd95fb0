//! Contents that tell where they come from.
//!
//! Every write of a history sends a chunk of its own, which begins with its number. So what is read tells which writes
//! it is made of, and a byte that is missing or wrong is noticed.

use std::fmt;

/// What a small write sends. Restarts are at multiples of it.
pub(crate) const SMALL: usize = 64;

/// A mark that is nowhere in a chunk but at its beginning.
const BEGIN: u8 = b'#';

/// Chunks are made of blocks that repeat.
const BLOCK: usize = 4096;

/// What one write sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Chunk {
    pub(crate) number: u32,
    pub(crate) size: usize,
}

/// The beginning of a chunk, or all of it, in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Piece {
    pub(crate) chunk: u32,
    pub(crate) len: usize,
}

/// What a file has in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Content(pub(crate) Vec<Piece>);

impl Chunk {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let block = self.block();
        let mut bytes = Vec::with_capacity(self.size + BLOCK);
        bytes.extend(format!("#{:07x}", self.number).bytes());
        while bytes.len() < self.size {
            bytes.extend(&block);
        }
        bytes.truncate(self.size);
        bytes
    }

    pub(crate) fn whole(self) -> Piece {
        Piece {
            chunk: self.number,
            len: self.size,
        }
    }

    /// Letters by its number.
    fn block(self) -> Vec<u8> {
        let mut state = u64::from(self.number) ^ 0x9e37_79b9_7f4a_7c15;
        let letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + u8::try_from(state % 26).expect("a letter")
        };
        (0..BLOCK).map(letter).collect()
    }
}

impl Content {
    pub(crate) fn of(chunk: Chunk) -> Self {
        Self(vec![chunk.whole()])
    }

    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|piece| piece.len).sum()
    }

    pub(crate) fn and(&self, chunk: Chunk) -> Self {
        let mut pieces = self.0.clone();
        pieces.push(chunk.whole());
        Self(pieces)
    }

    /// Its first bytes.
    pub(crate) fn first(&self, mut bytes: usize) -> Self {
        let mut pieces = Vec::new();
        for piece in &self.0 {
            let len = piece.len.min(bytes);
            bytes -= len;
            if len > 0 {
                pieces.push(Piece { len, ..*piece });
            }
        }
        Self(pieces)
    }

    /// Reads what was written. The error tells what is in it that nobody has written.
    pub(crate) fn read(mut bytes: &[u8], chunks: &[Chunk]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let known = chunks.iter().map(|chunk| (chunk, chunk.bytes()));
            let piece = known
                .map(|(chunk, whole)| Piece {
                    chunk: chunk.number,
                    len: common(bytes, &whole),
                })
                .find(|piece| piece.len >= 8);
            let end = |piece: &Piece| matches!(bytes.get(piece.len), None | Some(&BEGIN));
            let Some(piece) = piece.filter(end) else {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]);
                return Err(format!(
                    "{:?}, and then {} bytes that nobody has written, from {start:?} on",
                    Self(pieces),
                    bytes.len()
                ));
            };
            bytes = &bytes[piece.len..];
            pieces.push(piece);
        }
        Ok(Self(pieces))
    }
}

/// How many bytes at the beginning are the same.
fn common(a: &[u8], b: &[u8]) -> usize {
    if a.starts_with(b) {
        return b.len();
    }
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("(empty)");
        }
        let mut plus = "";
        for piece in &self.0 {
            write!(formatter, "{plus}#{}", piece.chunk)?;
            if piece.len != SMALL {
                write!(formatter, "[{}]", piece.len)?;
            }
            plus = "+";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Chunk = Chunk {
        number: 1,
        size: SMALL,
    };
    const TWO: Chunk = Chunk {
        number: 2,
        size: 3 * SMALL,
    };

    #[test]
    fn what_was_written_is_read() {
        let content = Content::of(ONE).and(TWO).first(2 * SMALL).and(ONE);
        let cut = &TWO.bytes()[..SMALL];
        let bytes = [&ONE.bytes()[..], cut, &ONE.bytes()].concat();
        assert_eq!(Content::read(&bytes, &[TWO, ONE]).unwrap(), content);
        assert_eq!(content.to_string(), "#1+#2+#1");
        assert_eq!(content.size(), bytes.len());
    }

    #[test]
    fn what_nobody_has_written_is_noticed() {
        let chunks = [ONE, TWO];
        let mut damaged = TWO.bytes();
        damaged[100] ^= 1;
        Content::read(&damaged, &chunks).unwrap_err();
        Content::read(&TWO.bytes(), &[ONE]).unwrap_err();
        Content::read(&TWO.bytes()[1..], &chunks).unwrap_err();
        Content::read(&[0], &chunks).unwrap_err();
    }
}
