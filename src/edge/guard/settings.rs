//! The verbs that concern the connection itself: representation, features, passive ports, status.

use tokio::time::Instant;

use crate::ftp::Reply;
use crate::session::Facts;
use crate::telemetry::LineKind;

use super::super::command::{EdgeVerb, VERBS};
use super::super::data::Arranged;
use super::super::passive::Holder;
use super::{End, Guard, Next};

impl Guard {
    pub(super) async fn edge_verb(
        &mut self,
        edge: EdgeVerb,
        verb: &'static str,
        argument: &[u8],
    ) -> Result<Next, End> {
        match edge {
            EdgeVerb::Quit => {
                // Its port is free before the client hears that it may go.
                self.data = None;
                self.reply(verb, Reply::new(221, "Good-bye")).await?;
                return Ok(Next::Close);
            }
            EdgeVerb::Auth => return self.auth(argument).await,
            _ => {}
        }
        let reply = match edge {
            EdgeVerb::Abor => self.abor(),
            EdgeVerb::Acct => Reply::new(202, "No account needed"),
            EdgeVerb::Allo => self.allo(argument),
            EdgeVerb::Ccc => self.ccc(),
            EdgeVerb::Pbsz => self.pbsz(argument),
            EdgeVerb::Prot => self.prot(argument),
            EdgeVerb::Cdup => self.cdup(),
            EdgeVerb::Clnt => Reply::new(200, "Noted"),
            EdgeVerb::Epsv => self.epsv(argument).await,
            EdgeVerb::Pasv => self.pasv().await,
            EdgeVerb::Port | EdgeVerb::Eprt => self.active(edge, argument).await,
            EdgeVerb::Feat => self.features(),
            EdgeVerb::Help => help(),
            EdgeVerb::Host => self.host(),
            EdgeVerb::Mfmt => times_are_the_buckets(),
            EdgeVerb::Mode => mode(argument),
            EdgeVerb::Noop | EdgeVerb::Quit | EdgeVerb::Auth => Reply::new(200, "Here I am"),
            EdgeVerb::Opts => self.opts(argument),
            EdgeVerb::Pwd => Reply::new(
                257,
                format!("{} is the current directory", self.cwd.quoted()),
            ),
            EdgeVerb::Rein => self.rein(),
            EdgeVerb::Rest => self.rest(argument),
            EdgeVerb::Site => site(argument),
            EdgeVerb::Stru => structure(argument),
            EdgeVerb::Syst => Reply::new(215, "UNIX Type: L8"),
            EdgeVerb::Type => self.representation(argument),
        };
        self.reply(verb, reply).await
    }

    /// No transfer runs. A data connection that is arranged is closed all the same (RFC 959, section 4.1.3).
    fn abor(&mut self) -> Reply {
        match self.data.take() {
            Some(_) => Reply::new(226, "Data connection closed"),
            None => Reply::new(226, "Nothing to abort"),
        }
    }

    /// RFC 7151: before the login only.
    fn host(&self) -> Reply {
        if self.session.user().is_some() {
            Reply::new(503, "HOST comes before the login")
        } else {
            Reply::new(220, "One host for all names")
        }
    }

    fn cdup(&mut self) -> Reply {
        self.cwd = self.cwd.parent();
        Reply::new(
            250,
            format!("{} is the current directory", self.cwd.quoted()),
        )
    }

    fn rein(&mut self) -> Reply {
        self.start_over();
        Reply::new(220, "Ready for a new user")
    }

    fn rest(&mut self, argument: &[u8]) -> Reply {
        match number(argument) {
            Some(offset) => {
                self.restart = offset;
                Reply::new(350, format!("The next transfer starts at {offset}"))
            }
            None => Reply::new(501, "REST needs a number of bytes"),
        }
    }

    /// `ALLO size [R record]`: what comes must be what was announced, where that is to be checked. Anywhere else it
    /// is the proof that a file is whole, if it is.
    fn allo(&mut self, argument: &[u8]) -> Reply {
        let size = argument
            .split(|byte| *byte == b' ')
            .next()
            .unwrap_or_default();
        let Some(size) = number(size) else {
            return Reply::new(501, "ALLO needs a number of bytes");
        };
        self.announced = Some(size);
        if !self.edge.config.check_allo {
            // Not 202: there are cameras that send it again until they hear 200.
            return Reply::new(200, "No allocation needed");
        }
        Reply::new(200, format!("The next upload has to have {size} bytes"))
    }

    /// `TYPE`: text is moved byte for byte as well, as most servers do by default.
    fn representation(&mut self, argument: &[u8]) -> Reply {
        match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"A" | b"A N" => {
                self.is_text = true;
                Reply::new(200, "ASCII, moved byte for byte")
            }
            b"I" | b"L 8" | b"L8" => {
                self.is_text = false;
                Reply::new(200, "Binary")
            }
            known if is_type(known) => Reply::new(504, "Only TYPE A and TYPE I"),
            _ => Reply::new(501, "TYPE takes A or I"),
        }
    }

    fn opts(&mut self, argument: &[u8]) -> Reply {
        let words = String::from_utf8_lossy(argument).to_ascii_uppercase();
        let mut words = words.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("UTF8" | "UTF-8"), None | Some("ON")) => {
                self.session.prefer_utf8();
                Reply::new(200, "UTF-8 it is")
            }
            (Some("UTF8" | "UTF-8"), Some("OFF")) => {
                Reply::new(200, "Names in the old charset are understood")
            }
            (Some("MLST"), facts) => self.choose_facts(facts.unwrap_or_default()),
            _ => Reply::new(501, "No such option"),
        }
    }

    /// RFC 3659, section 7.9: the answer repeats what was understood.
    fn choose_facts(&self, names: &str) -> Reply {
        let facts = Facts::chosen(names);
        self.session.choose_facts(facts);
        let answer = format!("MLST OPTS {}", facts.names());
        Reply::new(200, answer.trim_end())
    }

    fn features(&self) -> Reply {
        let mlst = format!("MLST {}", self.session.facts().features());
        let mut features: Vec<&str> = self.security_features().to_vec();
        features.extend(["CLNT", "EPSV", "HOST", "MDTM", &mlst]);
        features.extend(["REST STREAM", "SIZE", "TVFS", "UTF8"]);
        features.extend(self.edge.config.active.enabled.then_some("EPRT"));
        features.sort_unstable();
        let lines = ["Features:"].into_iter().chain(features).chain(["End"]);
        Reply::multi(211, lines.map(str::to_owned).collect())
    }

    async fn pasv(&mut self) -> Reply {
        if self.epsv_all {
            return Reply::new(501, "EPSV ALL was said, use EPSV");
        }
        let (peer, local) = (self.session.peer().ip(), self.session.local());
        let address = match self.edge.address.advertise(peer, local) {
            Ok(address) => address.octets(),
            Err(error) => return Reply::new(425, error.to_string()),
        };
        match self.open_passive().await {
            Ok(port) => {
                let [a, b, c, d] = address;
                let [high, low] = port.to_be_bytes();
                Reply::new(
                    227,
                    format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})"),
                )
            }
            Err(reply) => reply,
        }
    }

    /// RFC 2428: `1` is IPv4, `2` is IPv6, and the answer can only be what the control connection
    /// is.
    async fn epsv(&mut self, argument: &[u8]) -> Reply {
        let own: &[u8] = if self.session.local().is_ipv4() {
            b"1"
        } else {
            b"2"
        };
        match argument.trim_ascii() {
            all if all.eq_ignore_ascii_case(b"ALL") => {
                self.epsv_all = true;
                Reply::new(200, "EPSV only, from now on")
            }
            b"" => self.extended_passive().await,
            family if family == own => self.extended_passive().await,
            b"1" | b"2" => Reply::new(
                522,
                format!(
                    "Network protocol not supported, use ({})",
                    own.escape_ascii()
                ),
            ),
            _ => Reply::new(501, "EPSV takes 1, 2 or ALL"),
        }
    }

    async fn extended_passive(&mut self) -> Reply {
        match self.open_passive().await {
            Ok(port) => Reply::new(229, format!("Entering Extended Passive Mode (|||{port}|)")),
            Err(reply) => reply,
        }
    }

    /// Opens a passive port; an earlier one is closed first, so that a client can't hoard them.
    async fn open_passive(&mut self) -> Result<u16, Reply> {
        self.data = None;
        let Some(permit) = self.edge.descriptors.transfer().await else {
            return Err(self.no_permit());
        };
        // Ours, not the proxy's.
        let address = self.session.socket();
        let Some(holder) = self.holder() else {
            return Err(Reply::new(530, "Please log in with USER and PASS"));
        };
        let buffers = self.edge.socket_memory.buffers();
        match self.edge.ports.open(holder, address, buffers.receive()) {
            Ok(port) => {
                let number = port.number();
                self.data = Some(Arranged::passive(port, buffers, permit));
                self.data_until = Instant::now() + self.edge.config.passive.accept_timeout;
                Ok(number)
            }
            Err(error) => {
                self.edge.metrics.passive_ports_exhausted.inc();
                if self.logs(LineKind::NoPassivePort) {
                    tracing::warn!(session = %self.session.id(), %error, "no passive port is free");
                }
                Err(Reply::new(425, "No passive port is free, try again"))
            }
        }
    }

    /// Who holds the ports of this session. Nobody does before the login.
    fn holder(&self) -> Option<Holder> {
        Some(Holder {
            user: self.session.user()?.name.clone(),
            origin: self.session.peer().ip().into(),
        })
    }

    pub(super) fn no_permit(&self) -> Reply {
        self.edge.metrics.transfers_refused.inc();
        if self.logs(LineKind::NoTransfer) {
            tracing::warn!(
                session = %self.session.id(),
                "no transfer can begin, too few open files are left; raise the limit (ulimit -n, LimitNOFILE)"
            );
        }
        Reply::new(425, "Too many transfers at the moment, try again")
    }

    /// `STAT` without a path (RFC 959: the status of server and session).
    pub(super) fn status(&self, running: Option<String>) -> Reply {
        let user = self.session.user();
        let mut lines = vec![
            "Bucketferry".to_owned(),
            format!("Connected from {}", self.session.peer().ip()),
        ];
        if let Some(secured) = self.session.secured() {
            lines.push(format!("Encrypted by {}", secured.protocol));
        }
        if let Some(user) = user {
            lines.push(format!("Logged in as {}", user.name));
            lines.push(format!("Current directory {}", self.cwd.quoted()));
        }
        lines.push(running.unwrap_or_else(|| "No transfer".to_owned()));
        lines.push("End".to_owned());
        Reply::multi(211, lines)
    }
}

fn help() -> Reply {
    let names: Vec<_> = VERBS.iter().map(|spec| spec.name).collect();
    let mut lines = vec!["These commands are known:".to_owned()];
    lines.extend(names.chunks(10).map(|row| row.join(" ")));
    lines.push("End".to_owned());
    Reply::multi(214, lines)
}

fn site(argument: &[u8]) -> Reply {
    if argument.trim_ascii().eq_ignore_ascii_case(b"HELP") {
        Reply::new(214, "There are no SITE commands here")
    } else {
        Reply::new(502, "No such SITE command")
    }
}

/// Whether RFC 959 knows it: text with a format, or bytes of so many bits.
fn is_type(argument: &[u8]) -> bool {
    match argument {
        [b'L', bits @ ..] => number(bits).is_some_and(|bits| (1..=255).contains(&bits)),
        b"A T" | b"A C" | b"E" | b"E N" | b"E T" | b"E C" => true,
        _ => false,
    }
}

fn mode(argument: &[u8]) -> Reply {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"S" => Reply::new(200, "Stream"),
        b"B" | b"C" | b"Z" => Reply::new(504, "Only MODE S"),
        _ => Reply::new(501, "MODE takes S"),
    }
}

fn structure(argument: &[u8]) -> Reply {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"F" => Reply::new(200, "File"),
        b"R" | b"P" => Reply::new(504, "Only STRU F"),
        _ => Reply::new(501, "STRU takes F"),
    }
}

/// No bucket lets a client set the time of an object.
pub(super) fn times_are_the_buckets() -> Reply {
    Reply::new(
        504,
        "Modification times are the bucket's own and can't be set",
    )
}

fn number(argument: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(argument.trim_ascii()).ok()?;
    // `parse` takes a leading plus, FTP does not.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}
