//! Settings whose value is one word of a few.

/// Declares an enum whose variants are written as the given words.
macro_rules! words {
    ($(
        $(#[$attribute:meta])*
        $Name:ident { $($(#[$variant_attribute:meta])* $Variant:ident = $word:literal,)+ }
    )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Name {
            $($(#[$variant_attribute])* $Variant,)+
        }

        impl $Name {
            const WORDS: &[(&str, Self)] = &[$(($word, Self::$Variant)),+];

            /// The word for it in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::setting::Setting for $Name {
            fn allowed() -> String {
                let words = Self::WORDS.iter().map(|(word, _)| format!("`{word}`"));
                words.collect::<Vec<_>>().join(", ")
            }

            fn parse(value: &toml::Value) -> Result<Self, String> {
                let written = $crate::config::setting::text(value)?;
                let known = Self::WORDS.iter().find(|(word, _)| *word == written);
                known.map(|(_, meant)| *meant).ok_or_else(|| $crate::config::setting::found(value))
            }

            fn show(&self) -> toml::Value {
                toml::Value::String(self.as_str().to_owned())
            }
        }
    )+};
}

words! {
    /// Whether the folder of a store is made.
    Create {
        /// Where there is none, and it then is this store from now on.
        Missing = "missing",
        /// Not: it has to be there, and to be a store already.
        Never = "never",
    }

    /// Whether it is tried if the store makes changes on a condition.
    Conditions {
        /// At the start, on objects of the gateway's own.
        Try = "try",
        /// Not: it does.
        Trust = "trust",
    }

    /// What becomes of the transfers of a user whose login holds no more.
    OnRemoval {
        /// They go on to their end, and then the session ends.
        Finish = "finish",
        /// They are aborted.
        Abort = "abort",
    }

    /// Whether an upload may replace an object that is there already.
    Overwrite {
        /// The new object takes the old one's place.
        Allow = "allow",
        /// The upload is refused, and the old object stays.
        Deny = "deny",
    }

    /// What becomes of a directory that is missing on the way to a new file or directory.
    MissingDirectories {
        /// It is there with what is put into it, as buckets have it.
        Create = "create",
        /// The command is refused.
        Refuse = "refuse",
    }

    /// What becomes of an upload whose data came in full, but whose control connection was lost
    /// before the commit.
    ControlLoss {
        /// It is aborted.
        Discard = "discard",
        /// It is published.
        Keep = "keep",
    }

    /// How what was stored is compared with what was sent.
    Verify {
        /// By the checksum that the store compares, or else by the size.
        Checksum = "checksum",
        /// By MD5 too, where a store that speaks S3's protocol has no checksum.
        Md5 = "md5",
        /// It is read again.
        ReadBack = "read-back",
    }

    /// What must be encrypted.
    RequireTls {
        /// Nothing.
        None = "none",
        /// The control connection.
        Control = "control",
        /// Control and data connections.
        All = "all",
    }

    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }

    /// Whether clients show a certificate.
    ClientAuth {
        /// They are not asked.
        Off = "off",
        /// They are asked, and may have none.
        Request = "request",
        /// They must.
        Require = "require",
    }

    /// When a proxy sends the header of the PROXY protocol.
    ProxyHeader {
        /// At once, before the server speaks.
        First = "first",
        /// Only together with the first bytes of the client.
        Late = "late",
    }

    /// When readiness depends on the bucket.
    ReadyNeedsStore {
        /// Until it has answered once.
        Start = "start",
        /// All the time.
        Always = "always",
    }

    /// The least important messages that are logged.
    LogLevel {
        /// What a person must look at.
        Error = "error",
        /// What may become a problem.
        Warn = "warn",
        /// Logins, transfers, starts and stops.
        Info = "info",
        /// Each command and reply.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }

    /// How log lines are written.
    LogFormat {
        /// Text on a terminal, JSON elsewhere.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// For machines: an object on each line.
        Json = "json",
    }
}
