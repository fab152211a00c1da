//! Who plays which part in which mode.

use super::Program;

/// How a network is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Applications at the client, targets at the server.
    Forward,
    /// Applications at the server, targets at providers.
    Reverse,
    /// Applications at connectors, targets at providers.
    Agent,
    /// As [`Self::Agent`], with connector tokens that the providers choose.
    Autonomy,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Forward, Self::Reverse, Self::Agent, Self::Autonomy];

    /// A name for messages, test names and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Agent => "agent",
            Self::Autonomy => "autonomy",
        }
    }
}

/// A mode, and the program of each of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are the parts of their names.
pub enum Cast {
    /// [`Mode::Forward`].
    Forward { server: Program, client: Program },
    /// [`Mode::Reverse`].
    Reverse { server: Program, provider: Program },
    /// [`Mode::Agent`].
    Agent { server: Program, provider: Program, connector: Program },
    /// [`Mode::Autonomy`].
    Autonomy { server: Program, provider: Program, connector: Program },
}

impl Cast {
    /// Every way to fill the parts of `mode` with `programs`.
    #[must_use]
    pub fn all(mode: Mode, programs: &[Program]) -> Vec<Self> {
        let pairs =
            || programs.iter().flat_map(|&server| programs.iter().map(move |&second| (server, second)));
        let triples = || {
            pairs().flat_map(|(server, provider)| {
                programs.iter().map(move |&connector| (server, provider, connector))
            })
        };
        match mode {
            Mode::Forward => pairs().map(|(server, client)| Self::Forward { server, client }).collect(),
            Mode::Reverse => pairs().map(|(server, provider)| Self::Reverse { server, provider }).collect(),
            Mode::Agent => triples()
                .map(|(server, provider, connector)| Self::Agent { server, provider, connector })
                .collect(),
            Mode::Autonomy => triples()
                .map(|(server, provider, connector)| Self::Autonomy { server, provider, connector })
                .collect(),
        }
    }

    /// The mode.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Self::Forward { .. } => Mode::Forward,
            Self::Reverse { .. } => Mode::Reverse,
            Self::Agent { .. } => Mode::Agent,
            Self::Autonomy { .. } => Mode::Autonomy,
        }
    }

    /// Who listens for the others.
    #[must_use]
    pub fn server(self) -> Program {
        match self {
            Self::Forward { server, .. }
            | Self::Reverse { server, .. }
            | Self::Agent { server, .. }
            | Self::Autonomy { server, .. } => server,
        }
    }

    /// Who dials targets for the server.
    #[must_use]
    pub fn provider(self) -> Option<Program> {
        match self {
            Self::Forward { .. } => None,
            Self::Reverse { provider, .. }
            | Self::Agent { provider, .. }
            | Self::Autonomy { provider, .. } => Some(provider),
        }
    }

    /// Who logs in to the server for applications: the client or the connector.
    #[must_use]
    pub fn client(self) -> Option<Program> {
        match self {
            Self::Reverse { .. } => None,
            Self::Forward { client, .. } => Some(client),
            Self::Agent { connector, .. } | Self::Autonomy { connector, .. } => Some(connector),
        }
    }

    /// Whose SOCKS port the applications use.
    #[must_use]
    pub fn entry(self) -> Program {
        self.client().unwrap_or_else(|| self.server())
    }

    /// Who dials the targets.
    #[must_use]
    pub fn exit(self) -> Program {
        self.provider().unwrap_or_else(|| self.server())
    }

    /// The programs: server, then provider, then client or connector, as far as the mode has them.
    pub fn parts(self) -> impl Iterator<Item = Program> {
        [Some(self.server()), self.provider(), self.client()].into_iter().flatten()
    }

    /// Whether `program` has a part.
    #[must_use]
    pub fn has(self, program: Program) -> bool {
        self.parts().any(|part| part == program)
    }

    /// Whether all parts can be had on this machine.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self.parts().all(Program::is_installed)
    }

    /// A name within its mode: that of each part, in the order of [`Self::parts`].
    #[must_use]
    pub fn name(self) -> String {
        self.parts().map(Program::name).collect::<Vec<_>>().join("_")
    }
}
