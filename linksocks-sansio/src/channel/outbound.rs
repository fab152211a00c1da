//! The direction socket → link of a channel: messages that wait for the link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, BatchRules};
use super::window::SendWindow;
use super::{Batcher, Shrink};
use crate::config::{BatchingMode, Limits};
use crate::ids::ChannelId;
use crate::io::ReadCredit;
use crate::link::Turn;
use crate::wire::{DATA_HEADER_LEN, seal_tcp};

/// The least that may be on its way from a busy socket to a link.
const BUSY_READ_WINDOW: usize = 64 * 1024;

/// A message below this length is copied when it must wait.
const COPY_BELOW: usize = 4 * 1024;

/// A message to send after the last Data of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutboundEnd {
    /// Our direction has ended; the other may go on.
    Finish,
    /// The channel has ended, regularly or with a reason.
    Disconnect(Option<String>),
}

/// What comes next from a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Data(Sealed),
    End(OutboundEnd),
}

/// A complete Data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) message: Bytes,
    /// How many bytes of the stream it carries.
    pub(crate) carried: usize,
}

/// Data messages of a channel, and the end behind them.
#[derive(Debug)]
pub(crate) struct Outbound {
    channel: ChannelId,
    queue: VecDeque<Sealed>,
    /// Behind the queue: bytes that more may join.
    batch: Option<Batch>,
    batcher: Batcher,
    /// How many messages at the end of the queue are not compressed, and what they carry.
    plain: (usize, usize),
    pub(crate) shrink: Shrink,
    /// The lengths of all messages.
    bytes: usize,
    end: Option<OutboundEnd>,
    /// What may be sent, in whole messages: as the peer lets us, or, without the window extension,
    /// as [`Self::limit`] says. `None`: anything.
    credit: Option<SendWindow>,
    pub(crate) turn: Turn,
}

impl Outbound {
    pub(crate) fn new(channel: ChannelId, window: Option<u32>, batcher: Batcher) -> Self {
        Self {
            channel,
            queue: VecDeque::new(),
            batch: None,
            batcher,
            plain: (0, 0),
            shrink: Shrink::default(),
            bytes: 0,
            end: None,
            credit: window.map(SendWindow::new),
            turn: Turn::default(),
        }
    }

    /// Adds bytes that were read from the socket, behind headroom for the header. Returns how many
    /// had to be copied.
    pub(crate) fn add(&mut self, now: Instant, memory: BytesMut, rules: &BatchRules) -> usize {
        let length = memory.len() - DATA_HEADER_LEN;
        if self.batch.as_ref().is_some_and(|batch| !batch.takes(length, now, rules)) {
            self.flush(now);
        }
        let delay = if rules.mode == BatchingMode::Off { Duration::ZERO } else { self.batcher.delay() };
        let before = self.batch.as_ref().map_or(0, |batch| batch.memory.len());
        let mut copied = 0;
        let batch = match self.batch.take() {
            Some(mut batch) => {
                copied = batch.join(&memory[DATA_HEADER_LEN..], rules);
                batch
            }
            None => {
                Batch { memory, closes: now.checked_add(delay), held: rules.mode == BatchingMode::Literal }
            }
        };
        self.bytes += batch.memory.len() - before;
        let full = batch.carried() >= rules.full();
        self.batch = Some(batch);
        if full || delay.is_zero() {
            self.flush(now);
        }
        copied
    }

    /// Completes what waits for more.
    pub(crate) fn flush(&mut self, now: Instant) {
        if let Some(batch) = self.batch.take() {
            let carried = batch.carried();
            self.batcher.on_flush(now, carried);
            self.plain.0 += 1;
            self.plain.1 += carried;
            self.enqueue(Sealed { message: seal_tcp(batch.memory, self.channel), carried });
        }
    }

    fn enqueue(&mut self, mut sealed: Sealed) {
        if !self.queue.is_empty() && sealed.message.len() < COPY_BELOW {
            // While it waits it would pin the whole buffer that the socket was read into.
            sealed.message = Bytes::copy_from_slice(&sealed.message);
        }
        self.queue.push_back(sealed);
    }

    /// Whether bytes are held back until they are flushed, or enough.
    pub(crate) fn holds_back(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.held)
    }

    /// When bytes that are held back must be flushed; never, if the delay is beyond what an
    /// [`Instant`] can hold.
    pub(crate) fn flush_at(&self) -> Option<Instant> {
        self.batch.as_ref().filter(|batch| batch.held)?.closes
    }

    /// Whether reads are joined now, as far as the speed of the channel decides.
    pub(crate) fn is_batching(&self) -> bool {
        !self.batcher.delay().is_zero()
    }

    /// The lengths of all messages that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The payloads of all messages that wait, as they are.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.bytes - DATA_HEADER_LEN * (self.queue.len() + usize::from(self.batch.is_some()))
    }

    /// How much of the stream waits, complete and not compressed, behind all that is compressed.
    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain.1
    }

    /// The payloads of those messages.
    pub(crate) fn plain_payloads(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.queue.range(self.first_plain()..).map(|sealed| &sealed.message[DATA_HEADER_LEN..])
    }

    /// Replaces the first `count` of those messages by a compressed one. Returns by how many bytes
    /// less waits now.
    pub(crate) fn replace_plain(&mut self, count: usize, message: Bytes) -> usize {
        let first = self.first_plain();
        let (mut replaced, mut carried) = (0, 0);
        for sealed in self.queue.drain(first..first + count) {
            replaced += sealed.message.len();
            carried += sealed.carried;
        }
        debug_assert!(message.len() <= replaced, "compressing makes smaller");
        self.plain.0 -= count;
        self.plain.1 -= carried;
        self.bytes -= replaced - message.len();
        let saved = replaced - message.len();
        self.queue.insert(first, Sealed { message, carried });
        saved
    }

    fn first_plain(&self) -> usize {
        self.queue.len() - self.plain.0
    }

    /// Adds a message as it is.
    pub(crate) fn push(&mut self, sealed: Sealed) {
        self.bytes += sealed.message.len();
        self.enqueue(sealed);
    }

    /// Makes room by dropping the message that has waited longest. Only datagrams may be lost.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(sealed) = self.queue.pop_front() {
            self.bytes -= sealed.message.len();
        }
    }

    /// What waits, with overhead.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + self.queue.len() * Limits::MESSAGE_OVERHEAD
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Puts an end behind the last message; a later end replaces an earlier one.
    pub(crate) fn finish_with(&mut self, end: OutboundEnd) {
        debug_assert!(!self.holds_back(), "nothing is held back before an end");
        self.end = Some(end);
    }

    /// Whether no Data waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.batch.is_none()
    }

    /// The length of what may be sent next: 0 for an end.
    pub(crate) fn sendable(&self) -> Option<usize> {
        let length = match (self.queue.front(), &self.batch) {
            (Some(sealed), _) => sealed.message.len(),
            (None, Some(batch)) if batch.held => return None,
            (None, Some(batch)) => batch.memory.len(),
            (None, None) => return self.end.is_some().then_some(0),
        };
        self.credit.is_none_or(|credit| credit.allows(length)).then_some(length)
    }

    /// Takes what comes next, if it may be sent.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Next> {
        self.sendable()?;
        if self.queue.is_empty() {
            self.flush(now);
        }
        let Some(sealed) = self.queue.pop_front() else { return self.end.take().map(Next::End) };
        if self.plain.0 > self.queue.len() {
            self.plain.0 -= 1;
            self.plain.1 -= sealed.carried;
        }
        self.bytes -= sealed.message.len();
        if let Some(credit) = &mut self.credit {
            credit.on_sent(sealed.message.len());
        }
        Some(Next::Data(sealed))
    }

    /// The peer lets us send more. Nothing without the window extension.
    pub(crate) fn add_credit(&mut self, bytes: u32) {
        if let Some(credit) = &mut self.credit {
            credit.on_granted(bytes);
        }
    }

    /// The longest message that the receiver's window has room for twice.
    pub(crate) fn longest_message(&self) -> usize {
        self.credit.map_or(usize::MAX, |credit| credit.longest_message())
    }

    /// Lets no more than `bytes` leave until [`Self::lift_limit`]. Without the window extension.
    pub(crate) fn limit(&mut self, bytes: u32) {
        self.credit = Some(SendWindow::once(bytes));
    }

    pub(crate) fn lift_limit(&mut self) {
        self.credit = None;
    }

    /// Takes complete messages away, and forgets the end.
    pub(crate) fn take_messages(&mut self) -> VecDeque<Sealed> {
        self.end = None;
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// Drops what waits, and returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.queue.clear();
        self.batch = None;
        self.plain = (0, 0);
        self.end = None;
        std::mem::take(&mut self.bytes)
    }
}

/// Decides how much may be read from a socket: enough to keep the link busy, no more than a
/// window's worth that has not left for the link yet.
#[derive(Debug)]
pub(crate) struct ReadPacer {
    /// The size of one read: doubles while reads fill it, halves while they don't.
    chunk: usize,
    smallest: usize,
    small_reads: u8,
    /// Granted and not yet gone to the link.
    outstanding: usize,
}

impl ReadPacer {
    /// Every channel may be read so far ahead.
    pub(crate) const FREE: usize = 16 * 1024;
    /// Reads this often below a quarter of the chunk shrink it.
    const SHRINK_AFTER: u8 = 8;

    pub(crate) fn new(smallest: usize) -> Self {
        Self { chunk: smallest, smallest, small_reads: 0, outstanding: 0 }
    }

    /// A first grant of exactly `bytes`, for a handshake.
    pub(crate) fn grant_exactly(&mut self, bytes: usize) -> ReadCredit {
        self.outstanding += bytes;
        ReadCredit { bytes, chunk: bytes }
    }

    /// Grants what is missing to a window of exactly `window` bytes, for a handshake.
    pub(crate) fn top_up_exactly(&mut self, window: usize) -> Option<ReadCredit> {
        let bytes = window.checked_sub(self.outstanding).filter(|bytes| *bytes > 0)?;
        self.outstanding = window;
        Some(ReadCredit { bytes, chunk: window })
    }

    /// Learns from a read of `length` bytes.
    pub(crate) fn on_read(&mut self, length: usize) {
        if length >= self.chunk {
            self.chunk = self.chunk.saturating_mul(2);
            self.small_reads = 0;
        } else if length < self.chunk / 4 {
            self.small_reads += 1;
            if self.small_reads >= Self::SHRINK_AFTER {
                self.small_reads = 0;
                self.chunk = (self.chunk / 2).max(self.smallest);
            }
        } else {
            self.small_reads = 0;
        }
    }

    /// `bytes` have left for the link (or were dropped).
    pub(crate) fn on_released(&mut self, bytes: usize) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// The window that a socket needs. `largest` is the largest read allowed, `ahead` what may be collected
    /// beyond what keeps the link busy.
    pub(crate) fn window(&mut self, largest: usize, ahead: usize) -> usize {
        self.chunk = self.chunk.min(largest).max(1);
        // As long as no read has filled its chunk, there is no hurry.
        let busy = self.chunk > self.smallest.min(largest);
        let window = if busy { (self.chunk * 2).max(BUSY_READ_WINDOW) } else { self.chunk.max(Self::FREE) };
        window + ahead
    }

    /// What has been granted and not gone to the link.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// What was learnt is out of date.
    pub(crate) fn begin_anew(&mut self) {
        (self.chunk, self.small_reads) = (self.smallest, 0);
    }

    /// Grants more once half of the window is used.
    pub(crate) fn top_up(&mut self, window: usize) -> Option<ReadCredit> {
        if self.outstanding > window / 2 {
            return None;
        }
        let bytes = window - self.outstanding;
        self.outstanding = window;
        Some(ReadCredit { bytes, chunk: self.chunk })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::{BatchRules, Batcher, Next, Outbound, OutboundEnd, ReadPacer};
    use crate::config::{BatchDelay, BatchingMode};
    use crate::ids::ChannelId;
    use crate::io::ReadBuf;
    use crate::tests::epoch;
    use crate::wire::{DATA_HEADER_LEN, Message, decode};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn outbound(window: Option<u32>) -> Outbound {
        Outbound::new(ChannelId([7; 16]), window, Batcher::new(BatchDelay::default(), epoch()))
    }

    const fn rules(mode: BatchingMode) -> BatchRules {
        BatchRules { mode, limit: 1000, compressible: usize::MAX }
    }

    fn add(outbound: &mut Outbound, now: Instant, payload: &[u8], mode: BatchingMode) -> usize {
        outbound.add(now, ReadBuf::copy_from(payload).into_memory(), &rules(mode))
    }

    /// The payloads that may be sent now.
    fn sent(outbound: &mut Outbound, now: Instant) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        while let Some(Next::Data(sealed)) = outbound.pop(now) {
            let Message::Data(data) = decode(sealed.message).unwrap().message else { panic!("Data") };
            assert_eq!((data.payload.len(), data.channel), (sealed.carried, ChannelId([7; 16])));
            payloads.push(data.payload);
        }
        payloads
    }

    /// An outbound whose channel is so busy that it waits 20 ms.
    fn busy(mode: BatchingMode) -> (Outbound, Instant) {
        let mut outbound = outbound(None);
        let now = epoch() + 2 * MILLISECOND;
        add(&mut outbound, now, &[1; 900], mode);
        assert_eq!((sent(&mut outbound, now).len(), outbound.bytes()), (1, 0));
        assert!(outbound.is_batching());
        (outbound, now)
    }

    #[test]
    fn the_end_comes_after_the_last_message_and_credit_is_respected() {
        let mut outbound = outbound(Some(24 + 8 + 24 + 2));
        for payload in [&b"12345678"[..], b"123"] {
            add(&mut outbound, epoch(), payload, BatchingMode::Adaptive);
        }
        outbound.finish_with(OutboundEnd::Finish);
        assert_eq!(sent(&mut outbound, epoch()), [&b"12345678"[..]]);
        assert_eq!(outbound.pop(epoch()), None, "1 more is needed");
        outbound.add_credit(1);
        assert!(matches!(outbound.pop(epoch()), Some(Next::Data(_))));
        assert_eq!(outbound.pop(epoch()), Some(Next::End(OutboundEnd::Finish)));
        assert_eq!(outbound.pop(epoch()), None);
        assert_eq!(outbound.clear(), 0);
    }

    #[test]
    fn adaptive_batches_grow_only_until_the_link_takes_them() {
        let (mut outbound, now) = busy(BatchingMode::Adaptive);
        assert_eq!(add(&mut outbound, now, b"one ", BatchingMode::Adaptive), 0, "nothing to join");
        assert_eq!(sent(&mut outbound, now), [&b"one "[..]], "at once");
        add(&mut outbound, now, b"two ", BatchingMode::Adaptive);
        assert_eq!(add(&mut outbound, now, b"three ", BatchingMode::Adaptive), 4 + 6);
        assert_eq!(add(&mut outbound, now + 19 * MILLISECOND, b"four ", BatchingMode::Adaptive), 5);
        assert_eq!(add(&mut outbound, now + 20 * MILLISECOND, b"five", BatchingMode::Adaptive), 0);
        assert_eq!(outbound.bytes(), 2 * DATA_HEADER_LEN + 19);
        assert_eq!(sent(&mut outbound, now), [&b"two three four "[..], b"five"]);
        assert_eq!(outbound.bytes(), 0);
    }

    #[test]
    fn literal_batches_are_held_until_they_are_full_or_flushed() {
        let (mut outbound, now) = busy(BatchingMode::Literal);
        add(&mut outbound, now, &[2; 600], BatchingMode::Literal);
        assert_eq!(outbound.flush_at(), Some(now + 20 * MILLISECOND));
        assert_eq!((outbound.sendable(), outbound.pop(now)), (None, None));
        add(&mut outbound, now + MILLISECOND, &[3; 399], BatchingMode::Literal);
        assert_eq!(outbound.sendable(), None);
        add(&mut outbound, now + MILLISECOND, &[4; 2], BatchingMode::Literal);
        let lengths: Vec<_> = sent(&mut outbound, now).iter().map(Bytes::len).collect();
        assert_eq!(lengths, [999], "2 more would have been too many");
        outbound.flush(now);
        assert_eq!(sent(&mut outbound, now), [&[4; 2][..]]);
    }

    #[test]
    fn without_batching_every_read_is_a_message() {
        let (mut outbound, now) = busy(BatchingMode::Off);
        for payload in [&b"a"[..], b"b"] {
            assert_eq!(add(&mut outbound, now, payload, BatchingMode::Off), 0);
        }
        assert_eq!(sent(&mut outbound, now), [&b"a"[..], b"b"]);
    }

    #[test]
    fn compressed_messages_take_the_place_of_what_they_carry() {
        let mut outbound = outbound(None);
        for payload in [&[1; 100][..], &[2; 200], &[3; 300]] {
            add(&mut outbound, epoch(), payload, BatchingMode::Off);
        }
        outbound.pop(epoch());
        assert_eq!(outbound.plain_bytes(), 500);
        assert_eq!(outbound.plain_payloads().map(<[u8]>::len).collect::<Vec<_>>(), [200, 300]);
        add(&mut outbound, epoch(), &[4; 400], BatchingMode::Off);
        assert_eq!(outbound.replace_plain(2, Bytes::from_static(&[9; 48])), 500);
        assert_eq!((outbound.plain_bytes(), outbound.bytes()), (400, 48 + 424));
        let Some(Next::Data(sealed)) = outbound.pop(epoch()) else { panic!("a message waits") };
        assert_eq!((&sealed.message[..], sealed.carried), (&[9; 48][..], 500));
        assert_eq!(outbound.payload_bytes(), 400);
        outbound.pop(epoch());
        assert_eq!((outbound.plain_bytes(), outbound.bytes()), (0, 0));
    }

    #[test]
    fn reads_grow_while_they_fill_and_shrink_when_they_do_not() {
        let mut pacer = ReadPacer::new(16 << 10);
        let top_up = |pacer: &mut ReadPacer, largest, ahead| {
            let window = pacer.window(largest, ahead);
            pacer.top_up(window)
        };
        let credit = top_up(&mut pacer, 1 << 20, 0).unwrap();
        assert_eq!((credit.bytes, credit.chunk), (16 << 10, 16 << 10));
        for _ in 0..10 {
            let chunk = pacer.chunk;
            pacer.on_read(chunk);
        }
        pacer.on_released(16 << 10);
        let credit = top_up(&mut pacer, 256 << 10, 0).unwrap();
        assert_eq!(credit.chunk, 256 << 10);
        assert_eq!(top_up(&mut pacer, 256 << 10, 0), None, "nothing has left yet");
        let ahead = top_up(&mut pacer, 256 << 10, 1 << 20).unwrap();
        assert_eq!(ahead.bytes, 1 << 20, "what may be collected beyond");
        for _ in 0..200 {
            pacer.on_read(10);
        }
        assert_eq!(pacer.chunk, 16 << 10);
    }
}
