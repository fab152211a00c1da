//! Who connects to targets for whom.

use linksocks_sansio::config::ClientRole;
use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken};
use linksocks_sansio::{Credentials, Token};

use super::Shape;
use super::peers::{ClientPlan, ServerPlan, token};
use crate::sim::app::plan::{Entry, SOCKS_PORT, credentials, server_address};
use crate::sim::dice::Dice;

/// The mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server does, for its clients.
    Forward,
    /// Providers do, for connectors and sometimes for applications at the SOCKS port of the server.
    Agent,
    /// Each provider does for the connectors to which it has given a token.
    Autonomy,
    /// Providers do, for applications at the SOCKS port of the server.
    Reverse,
}

/// A door through which applications come in.
#[derive(Clone, Debug)]
pub struct EntryPlan {
    /// Which one.
    pub entry: Entry,
    /// The hosts that may connect to targets for those who come in here.
    pub diallers: Vec<usize>,
    /// Whether applications must log in.
    pub asks_for_login: bool,
    /// Whether they are told that they are connected before they are.
    pub fast_open: bool,
    /// Whether the server lets this client in.
    pub is_known: bool,
}

/// The server's place among the hosts; clients follow.
pub const SERVER: usize = 0;

const REVERSE: &str = "reverse";
const CONNECTOR: &str = "connector";

/// Another provider token and a connector token for it, which only malicious peers use: whoever has
/// the same token as a provider may answer in its place.
const FOREIGN_REVERSE: &str = "foreign reverse";
const FOREIGN_CONNECTOR: &str = "foreign connector";

impl Mode {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..50 => Self::Forward,
            50..75 => Self::Agent,
            75..88 => Self::Autonomy,
            _ => Self::Reverse,
        }
    }

    /// Whether the server passes on what others have sent.
    #[must_use]
    pub const fn joins(self) -> bool {
        matches!(self, Self::Agent | Self::Autonomy)
    }

    /// A token with which a malicious peer gets in, and whether as a provider.
    pub(super) fn foreign_token(self, dice: &mut Dice) -> Option<(Token, bool)> {
        match (self, dice.below(3)) {
            (Self::Forward, _) | (_, 0) => None,
            (Self::Agent | Self::Reverse, 1) => {
                let text = if dice.chance(50) { CONNECTOR } else { FOREIGN_CONNECTOR };
                Some((secret(text), false))
            }
            (Self::Autonomy, 1) => Some((own_connector(0), false)),
            // Connectors belong to one provider: there is no harm in another one of the same token.
            (Self::Autonomy, _) => Some((secret(REVERSE), true)),
            (Self::Agent | Self::Reverse, _) => Some((secret(FOREIGN_REVERSE), true)),
        }
    }

    /// Tokens that malicious peers may know of.
    pub(super) fn honest_tokens(self) -> Vec<Token> {
        match self {
            Self::Forward => Vec::new(),
            Self::Agent | Self::Autonomy | Self::Reverse => {
                vec![secret(REVERSE), secret(CONNECTOR), own_connector(0), own_connector(1), token(true)]
            }
        }
    }

    /// Turns server and clients of forward mode into those of this mode: adds providers, and returns
    /// all doors.
    pub(super) fn arrange(
        self,
        shape: Shape,
        server: &mut ServerPlan,
        clients: &mut Vec<ClientPlan>,
        dice: &mut Dice,
    ) -> Vec<EntryPlan> {
        if self == Self::Forward {
            return clients
                .iter()
                .enumerate()
                .map(|(client, plan)| plan.entry(client, vec![SERVER]))
                .collect();
        }
        if self == Self::Reverse {
            clients.clear();
        }
        let connectors = clients.len();
        for number in 0..dice.between(1, 3) as usize {
            clients.push(self.provider(number, connectors + number, shape, dice));
        }
        let hosts = || connectors + 1..=clients.len();
        let known: Vec<usize> = hosts().filter(|host| clients[host - 1].is_known).collect();
        let mut entries = Vec::new();
        for (number, client) in clients.iter_mut().take(connectors).enumerate() {
            let own = *dice.pick(&known);
            client.become_connector(match self {
                Self::Autonomy => own_connector(own - 1 - connectors),
                Self::Forward | Self::Agent | Self::Reverse => secret(CONNECTOR),
            });
            if self == Self::Autonomy {
                client.wait_for_token();
            }
            let diallers = if self == Self::Autonomy { vec![own] } else { known.clone() };
            entries.push(client.entry(number, diallers));
        }
        let asks_for_login = dice.chance(20);
        server.config.socks_host = server_address().ip();
        server.config.tokens.extend(self.tokens(asks_for_login));
        server.config.relay.fast_open = dice.chance(30);
        if self == Self::Reverse || self == Self::Agent && dice.chance(30) {
            let fast_open = server.config.relay.fast_open;
            let (entry, diallers, is_known) = (Entry::Server, known, true);
            entries.push(EntryPlan { entry, diallers, asks_for_login, fast_open, is_known });
        }
        entries
    }

    fn tokens(self, asks_for_login: bool) -> Vec<NewToken> {
        let mut reverse = ReverseToken::default();
        reverse.token = Some(secret(REVERSE));
        reverse.manage_connectors = self == Self::Autonomy;
        reverse.port = Some(SOCKS_PORT);
        reverse.credentials = asks_for_login.then(|| {
            let (name, password) = credentials();
            Credentials::new(name, password).expect("they have a usual length")
        });
        if self == Self::Autonomy {
            return vec![NewToken::Reverse(reverse)];
        }
        let mut foreign = ReverseToken::default();
        foreign.token = Some(secret(FOREIGN_REVERSE));
        let connector = |token, reverse| {
            let mut connector = ConnectorToken::new(secret(reverse));
            connector.token = Some(secret(token));
            NewToken::Connector(connector)
        };
        vec![
            NewToken::Reverse(reverse),
            NewToken::Reverse(foreign),
            connector(CONNECTOR, REVERSE),
            connector(FOREIGN_CONNECTOR, FOREIGN_REVERSE),
        ]
    }

    /// `number`: among providers; `client`: among all clients.
    fn provider(self, number: usize, client: usize, shape: Shape, dice: &mut Dice) -> ClientPlan {
        let mut plan = ClientPlan::draw(client, shape, dice);
        let connectors = if self == Self::Autonomy { vec![own_connector(number)] } else { Vec::new() };
        // There is always one that the server lets in, and in autonomy mode it is the only one of its
        // connectors.
        plan.is_known |= number == 0 || self == Self::Autonomy;
        if plan.is_known {
            plan.config.token = secret(REVERSE);
        }
        plan.config.role = ClientRole::Provider { connectors };
        plan.config.listen = None;
        plan
    }
}

/// The token that a provider gives to its connectors.
fn own_connector(provider: usize) -> Token {
    secret(&format!("{CONNECTOR} {provider}"))
}

pub(super) fn secret(text: &str) -> Token {
    Token::new(text).expect("the token has a usual length")
}
