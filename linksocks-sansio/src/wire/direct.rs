//! Direct mode: we stay out of it, but for one answer that its peers need.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Direct, DirectKind, Message};
use crate::ids::ChannelId;

/// Body of 0x0F, as far as it matters.
#[derive(Deserialize)]
struct Migrate<'a> {
    channel_id: &'a str,
}

/// Body of 0x10.
#[derive(Serialize)]
struct MigrateAck {
    channel_id: String,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// The channel that a ChannelMigrate is about: its peer goes on with it on the relay.
pub(crate) fn migrated_channel(json: &[u8]) -> Option<ChannelId> {
    let migrate: Migrate<'_> = serde_json::from_slice(json).ok()?;
    Some(ChannelId(Uuid::parse_str(migrate.channel_id).ok()?.into_bytes()))
}

/// The answer: our channels are on the relay anyway, if there are any.
pub(crate) fn migrate_ack(channel: ChannelId, known: bool) -> Option<Bytes> {
    let error = (!known).then_some("unknown channel");
    let ack = MigrateAck { channel_id: Uuid::from_bytes(channel.0).to_string(), success: known, error };
    let json = serde_json::to_vec(&ack).ok()?.into();
    Message::Direct(Direct { kind: DirectKind::ChannelMigrateAck, json }).encode().ok()
}
