//! Real clients, in the modes that they have.

use std::process::Output;

use super::gateway::Gateway;
use super::host::Host;

/// A client and how it makes its data connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// curl: `EPSV`, and `PASV` where that fails.
    Curl,
    /// curl: `PASV`, with the address that the server names (by itself curl does not believe it).
    CurlPasv,
    /// curl: `EPRT`, or `PORT` where that fails.
    CurlActive,
    /// lftp: `PASV` on IPv4 with the address that the server names, `EPSV` on IPv6.
    Lftp,
    /// lftp: `PORT` or `EPRT`.
    LftpActive,
    /// Python's ftplib: `PASV` on IPv4, `EPSV` on IPv6; of a 227 it takes the port only.
    Ftplib,
    /// The same, and it believes the address.
    FtplibTrusting,
    /// Python's ftplib: `PORT` or `EPRT`.
    FtplibActive,
}

impl Client {
    /// All that use passive mode.
    pub(crate) const PASSIVE: [Self; 5] = [
        Self::Curl,
        Self::CurlPasv,
        Self::Lftp,
        Self::Ftplib,
        Self::FtplibTrusting,
    ];

    /// Those that connect to whatever a 227 names.
    pub(crate) const BELIEVING: [Self; 3] = [Self::CurlPasv, Self::Lftp, Self::FtplibTrusting];

    /// All that use active mode.
    pub(crate) const ACTIVE: [Self; 3] = [Self::CurlActive, Self::LftpActive, Self::FtplibActive];

    /// Sends a file from `host` to the gateway at `server`, which stores it whole, and fetches it again.
    pub(crate) fn works(self, host: &Host, server: &str, gateway: &Gateway) {
        let file = self.file(host);
        let output = self.send_and_fetch(host, server, &file);
        let bytes = file.bytes.as_bytes();
        let whole = output.status.success() && output.stdout == bytes;
        assert!(whole, "{self:?}: {}\n{}", said(&output), gateway.log());
        assert_eq!(gateway.object(&file.name).as_deref(), Some(bytes));
    }

    /// Tries the same in vain: nothing is stored.
    pub(crate) fn fails(self, host: &Host, server: &str, gateway: &Gateway) {
        let file = self.file(host);
        let output = self.send_and_fetch(host, server, &file);
        assert!(!output.status.success(), "{self:?} was to fail");
        assert_eq!(gateway.object(&file.name), None, "{self:?}");
    }

    fn file(self, host: &Host) -> File {
        let name = format!("{self:?}-{}", host.name());
        let bytes = format!("{name}\n").repeat(10_000);
        File { name, bytes }
    }

    fn send_and_fetch(self, host: &Host, server: &str, file: &File) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(&file.name);
        std::fs::write(&path, &file.bytes).expect("a file");
        let path = path.to_str().expect("a path in UTF-8");
        let name = &file.name;
        match self {
            Self::Curl | Self::CurlPasv | Self::CurlActive => {
                let sent = self.curl(host, server, name, &["--upload-file", path]);
                if sent.status.success() {
                    self.curl(host, server, name, &[])
                } else {
                    sent
                }
            }
            Self::Lftp | Self::LftpActive => {
                self.lftp(host, server, &format!("put {path} -o {name}; cat {name}"))
            }
            Self::Ftplib | Self::FtplibTrusting | Self::FtplibActive => self.ftplib(
                host,
                server,
                &format!(
                    "ftp.storbinary('STOR {name}', open('{path}', 'rb'))\n\
                     ftp.retrbinary('RETR {name}', sys.stdout.buffer.write)"
                ),
            ),
        }
    }

    fn curl(self, host: &Host, server: &str, name: &str, more: &[&str]) -> Output {
        let mode: &[&str] = match self {
            Self::CurlPasv => &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
            Self::CurlActive => &["--ftp-port", "-"],
            _ => &[],
        };
        let url = format!("ftp://ferry:secret@{}/{name}", in_url(server));
        let common = ["--silent", "--show-error", "--max-time", "10", &url];
        host.run("curl", &[&common, mode, more].concat())
    }

    fn lftp(self, host: &Host, server: &str, commands: &str) -> Output {
        let passive = matches!(self, Self::Lftp);
        let script = format!(
            "set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 5; set ftp:ssl-allow no; \
             set ftp:fix-pasv-address no; set ftp:auto-passive-mode no; set ftp:passive-mode {passive}; \
             open -u ferry,secret ftp://{}; {commands}; bye",
            in_url(server)
        );
        host.run("lftp", &["--norc", "-c", &script])
    }

    fn ftplib(self, host: &Host, server: &str, commands: &str) -> Output {
        let passive = python(!matches!(self, Self::FtplibActive));
        let trusting = python(matches!(self, Self::FtplibTrusting));
        let script = format!(
            "import ftplib, sys\n\
             ftp = ftplib.FTP('{server}', 'ferry', 'secret', timeout=5)\n\
             ftp.trust_server_pasv_ipv4_address = {trusting}\n\
             ftp.set_pasv({passive})\n\
             {commands}\n\
             ftp.quit()\n"
        );
        host.run("python3", &["-c", &script])
    }
}

struct File {
    name: String,
    bytes: String,
}

fn python(yes: bool) -> &'static str {
    if yes { "True" } else { "False" }
}

fn in_url(server: &str) -> String {
    if server.contains(':') {
        format!("[{server}]")
    } else {
        server.to_owned()
    }
}

fn said(output: &Output) -> String {
    let output = [
        &output.stdout[..output.stdout.len().min(200)],
        &output.stderr,
    ]
    .concat();
    String::from_utf8_lossy(&output).into_owned()
}
