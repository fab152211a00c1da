//! The owner task: holds the engine, feeds it, and carries out what it says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_channel::oneshot;
use futures_util::future::select;
use futures_util::stream::{FuturesUnordered, StreamExt};
use linksocks_sansio::error::{LinkFailure, OpenError, SocketError, StopReason};
use linksocks_sansio::io::{HttpResponse, LinkClose};
use linksocks_sansio::{
    Action, Command, Engine, Input, LinkId, ListenerId, Output, QueryId, SocketId, Ticket,
};

use linksocks_sansio::token::{AddedToken, TokenError};

use crate::error::lookup_error;
use crate::observer::Reporter;
use crate::pumps::datagrams::{Buffers, DatagramCommand};
use crate::pumps::link::LinkCommand;
use crate::pumps::listener::AcceptCredit;
use crate::pumps::stream::{OpenLink, StreamCommand};
use crate::pumps::{Inbox, datagrams, listener, stream};
use crate::request::{OfferAnswer, Request, Requests};
use crate::runtime::{Accepted, Runtime, Timer};
use crate::tap::Tapped;
use crate::transport::Connector;

/// How many inputs are handled between two drains of the engine.
const BATCH: usize = 256;
/// How many requests come with a batch.
const REQUESTS_PER_BATCH: usize = 32;
/// How long the owner of a stopped engine waits for its pumps: longer than they linger.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The front door of a server: open until this is dropped.
pub(crate) type FrontDoor = oneshot::Sender<Infallible>;

/// Owns an engine and everything that it has asked for.
pub(crate) struct Owner<R: Runtime, E> {
    runtime: R,
    engine: Tapped<E>,
    reporter: Reporter,
    front_door: Option<FrontDoor>,
    /// For links that are opened.
    connector: Connector,

    /// Given to pumps.
    inbox: Inbox,
    inputs: UnboundedReceiver<Input>,
    /// Given to listeners.
    requests_sender: Requests,
    requests: UnboundedReceiver<Request>,
    lookups: FuturesUnordered<Pin<Box<dyn Future<Output = Input> + Send>>>,

    sockets: HashMap<SocketId, UnboundedSender<StreamCommand>>,
    datagrams: HashMap<SocketId, UnboundedSender<DatagramCommand>>,
    buffers: Buffers,
    links: HashMap<LinkId, UnboundedSender<LinkCommand>>,
    listeners: HashMap<ListenerId, UnboundedSender<AcceptCredit>>,
    pending: HashMap<Ticket, Pending>,
    next_ticket: u64,

    /// When the engine wants to be called.
    deadline: Option<Instant>,
    /// The running timer and when it fires; never after the deadline.
    timer: Option<(Instant, Timer)>,
}

/// Something the engine was offered and has not answered yet.
enum Pending {
    Link(oneshot::Sender<OfferAnswer>),
    Http(oneshot::Sender<HttpResponse>),
    Socket(UnboundedSender<StreamCommand>),
    Open { commands: UnboundedSender<StreamCommand>, answer: oneshot::Sender<Result<(), OpenError>> },
    Associate { commands: UnboundedSender<DatagramCommand>, answer: oneshot::Sender<Result<(), OpenError>> },
    Token(oneshot::Sender<Result<AddedToken, TokenError>>),
}

impl<R: Runtime, E: Engine + Send + 'static> Owner<R, E> {
    pub(crate) fn new(
        runtime: R,
        engine: Tapped<E>,
        reporter: Reporter,
        front_door: Option<FrontDoor>,
        connector: Connector,
        (inbox, inputs): (Inbox, UnboundedReceiver<Input>),
        (requests_sender, requests): (Requests, UnboundedReceiver<Request>),
    ) -> Self {
        Self {
            runtime,
            engine,
            reporter,
            front_door,
            connector,
            inbox,
            inputs,
            requests_sender,
            requests,
            lookups: FuturesUnordered::new(),
            sockets: HashMap::new(),
            datagrams: HashMap::new(),
            buffers: Buffers::default(),
            links: HashMap::new(),
            listeners: HashMap::new(),
            pending: HashMap::new(),
            next_ticket: 0,
            deadline: None,
            timer: None,
        }
    }

    /// Runs the engine until it stops, and releases everything before that is told.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        let reason = loop {
            if let Some(reason) = self.drain() {
                break reason;
            }
            poll_fn(|cx| self.poll_batch(cx, &mut batch)).await;
            let busy = batch.len() >= BATCH;
            let now = self.runtime.now();
            for input in batch.drain(..) {
                self.forget_dead(&input);
                self.engine.handle_input(now, input);
            }
            if busy {
                // Others want to run on this thread, too.
                yield_now().await;
            }
        };
        let (runtime, reporter, mut inputs) = self.let_go();
        let released = async { while inputs.next().await.is_some() {} };
        select(pin!(released), pin!(runtime.sleep(RELEASE_TIMEOUT))).await;
        reporter.stopped(reason);
    }

    /// Drops the command channels of all pumps. The inbox ends when the last pump has.
    fn let_go(self) -> (R, Reporter, UnboundedReceiver<Input>) {
        (self.runtime, self.reporter, self.inputs)
    }

    /// Collects what has happened, and adds [`Input::Timeout`] only if that is all.
    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Input>) -> Poll<()> {
        while batch.len() < BATCH
            && let Poll::Ready(Some(input)) = self.inputs.poll_next_unpin(cx)
        {
            batch.push(input);
        }
        for _ in 0..REQUESTS_PER_BATCH {
            let Poll::Ready(Some(request)) = self.requests.poll_next_unpin(cx) else { break };
            batch.extend(self.request(request));
        }
        while let Poll::Ready(Some(answer)) = self.lookups.poll_next_unpin(cx) {
            batch.push(answer);
        }
        if batch.is_empty() && self.poll_deadline(cx).is_ready() {
            batch.push(Input::Timeout);
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        loop {
            // A timer that fires too early is kept: deadlines move to later times with almost
            // every input, and a new timer for each would cost more than a wake-up in vain.
            if self.timer.as_ref().is_none_or(|(fires, _)| *fires > deadline) {
                let rest = deadline.saturating_duration_since(self.runtime.now());
                if rest.is_zero() {
                    return Poll::Ready(());
                }
                self.timer = Some((deadline, Box::pin(self.runtime.sleep(rest))));
            }
            if let Some((_, timer)) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
        }
    }

    /// Takes a request; some become inputs.
    fn request(&mut self, request: Request) -> Option<Input> {
        match request {
            Request::Accepted { listener, local, peer, commands } => {
                let ticket = self.ticket(Pending::Socket(commands));
                Some(Input::SocketAccepted { ticket, listener, local, peer })
            }
            Request::Offer { request, answer } => {
                let ticket = self.ticket(Pending::Link(answer));
                Some(Input::LinkOffered { ticket, request })
            }
            Request::Http { request, answer } => {
                let ticket = self.ticket(Pending::Http(answer));
                Some(Input::HttpRequest { ticket, request })
            }
            Request::Open { target, stream, answer } => {
                let (commands, receiver) = unbounded();
                self.runtime.spawn(stream::offer(self.runtime.clone(), stream, receiver, self.inbox.clone()));
                let ticket = self.ticket(Pending::Open { commands, answer });
                Some(Input::Command(Command::Open { ticket, target }))
            }
            Request::Associate { datagrams, answer } => {
                let (commands, receiver) = unbounded();
                let (inbox, buffers) = (self.inbox.clone(), self.buffers.clone());
                self.runtime.spawn(datagrams::offer(datagrams, receiver, inbox, buffers));
                let ticket = self.ticket(Pending::Associate { commands, answer });
                Some(Input::Command(Command::Associate { ticket }))
            }
            Request::AddToken { token, answer } => {
                let ticket = self.ticket(Pending::Token(answer));
                Some(Input::Command(Command::AddToken { ticket, token }))
            }
            Request::RemoveToken { token, answer } => {
                let ticket = self.ticket(Pending::Token(answer));
                Some(Input::Command(Command::RemoveToken { ticket, token }))
            }
            Request::Stats { answer } => {
                // Fails if nobody waits any more.
                let _ = answer.send(self.engine.stats());
                None
            }
            Request::Shutdown { drain } => {
                self.front_door = None;
                Some(Input::Command(Command::Shutdown { drain }))
            }
        }
    }

    fn ticket(&mut self, pending: Pending) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending.insert(ticket, pending);
        ticket
    }

    /// Drops the channel to a pump whose last word `input` is.
    fn forget_dead(&mut self, input: &Input) {
        match input {
            Input::LinkFailed { link, .. } | Input::LinkClosed { link, .. } => {
                self.links.remove(link);
            }
            Input::SocketFailed { socket, .. } | Input::SocketClosed { socket } => {
                self.sockets.remove(socket);
                self.datagrams.remove(socket);
            }
            Input::ListenerFailed { listener, .. } => {
                self.listeners.remove(listener);
            }
            Input::Timeout
            | Input::Command(_)
            | Input::LinkOffered { .. }
            | Input::HttpRequest { .. }
            | Input::LinkOpened { .. }
            | Input::LinkReceived { .. }
            | Input::LinkInvalid { .. }
            | Input::LinkWritten { .. }
            | Input::LinkPong { .. }
            | Input::SocketAccepted { .. }
            | Input::SocketOpened { .. }
            | Input::SocketRead { .. }
            | Input::SocketEof { .. }
            | Input::Revoked { .. }
            | Input::SocketWritten { .. }
            | Input::SocketBound { .. }
            | Input::DatagramReceived { .. }
            | Input::DatagramsSent { .. }
            | Input::ListenerOpened { .. }
            | Input::Resolved { .. } => {}
        }
    }

    /// Carries out what the engine says, until it has nothing more to say or stops.
    fn drain(&mut self) -> Option<StopReason> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit { link, message } => self.to_link(link, LinkCommand::Transmit(message)),
                Output::Receive { link, bytes } => self.to_link(link, LinkCommand::Receive(bytes)),
                Output::Write { socket, data } => self.to_socket(socket, StreamCommand::Write(data)),
                Output::Read { socket, credit } => self.to_socket(socket, StreamCommand::Read(credit)),
                Output::Revoke { socket } => self.to_socket(socket, StreamCommand::Revoke),
                Output::ReceiveDatagrams { socket, count } => {
                    self.to_datagrams(socket, DatagramCommand::Receive(count));
                }
                Output::SendDatagram { socket, to, payload } => {
                    self.to_datagrams(socket, DatagramCommand::Send { to, payload });
                }
                Output::Accept { listener, count } => {
                    if let Some(commands) = self.listeners.get(&listener) {
                        // Fails if the listener is gone; the engine will hear of it.
                        let _ = commands.unbounded_send(AcceptCredit(count));
                    }
                }
                Output::Action(Action::Stop { reason }) => return Some(reason),
                Output::Action(action) => self.act(action),
                Output::Event(event) => self.reporter.event(&event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return None;
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve { query, host } => {
                self.lookups.push(Box::pin(resolve(self.runtime.clone(), query, host)));
            }
            Action::Connect { socket, address, read } => {
                let (commands, receiver) = unbounded();
                self.sockets.insert(socket, commands);
                let (runtime, inbox) = (self.runtime.clone(), self.inbox.clone());
                self.runtime.spawn(stream::connect(runtime, socket, address, read, receiver, inbox));
            }
            Action::OpenLink { link, socket, request } => {
                let Some(stream) = self.sockets.remove(&socket) else {
                    let error = LinkFailure::Io(SocketError::Reset);
                    return self.inbox.put(Input::LinkFailed { link, error });
                };
                let (sender, commands) = unbounded();
                let connector = self.connector.clone();
                let open = OpenLink { link, connector, request, commands };
                let command = StreamCommand::OpenLink(Box::new(open));
                if stream.unbounded_send(command).is_err() {
                    let error = LinkFailure::Io(SocketError::Reset);
                    return self.inbox.put(Input::LinkFailed { link, error });
                }
                self.links.insert(link, sender);
            }
            Action::AcceptLink { ticket, link, extensions } => {
                let Some(Pending::Link(answer)) = self.pending.remove(&ticket) else { return };
                let (sender, commands) = unbounded();
                let inbox = self.inbox.clone();
                match answer.send(OfferAnswer::Accept { link, extensions, commands, inbox }) {
                    Ok(()) => {
                        self.links.insert(link, sender);
                    }
                    Err(_) => {
                        let error = LinkFailure::Io(SocketError::Reset);
                        self.inbox.put(Input::LinkFailed { link, error });
                    }
                }
            }
            Action::RejectLink { ticket, status, reason } => {
                if let Some(Pending::Link(answer)) = self.pending.remove(&ticket) {
                    // Fails if the peer is gone.
                    let _ = answer.send(OfferAnswer::Reject { status, reason });
                }
            }
            Action::HttpResponse { ticket, response } => {
                if let Some(Pending::Http(answer)) = self.pending.remove(&ticket) {
                    // Fails if the visitor is gone.
                    let _ = answer.send(response);
                }
            }
            Action::Ping { link } => self.to_link(link, LinkCommand::Ping),
            Action::CloseLink { link, close, linger } => {
                self.to_link(link, LinkCommand::Close { close, linger });
            }
            Action::AdoptSocket { ticket, socket, read } => {
                let commands = match self.pending.remove(&ticket) {
                    Some(Pending::Socket(commands)) => commands,
                    Some(Pending::Open { commands, answer }) => {
                        // If nobody waits any more, the embedder's end is dropped, which the pump sees.
                        let _ = answer.send(Ok(()));
                        commands
                    }
                    Some(
                        Pending::Link(_) | Pending::Http(_) | Pending::Associate { .. } | Pending::Token(_),
                    )
                    | None => return,
                };
                self.sockets.insert(socket, commands);
                self.to_socket(socket, StreamCommand::Adopt { socket, read });
            }
            Action::AdoptDatagrams { ticket, socket } => {
                if let Some(Pending::Associate { commands, answer }) = self.pending.remove(&ticket) {
                    // If nobody waits any more, the embedder's end is dropped, which the pump sees.
                    let _ = answer.send(Ok(()));
                    self.datagrams.insert(socket, commands);
                    self.to_datagrams(socket, DatagramCommand::Adopt { socket });
                }
            }
            Action::Bind { socket, address } => {
                let (commands, receiver) = unbounded();
                self.datagrams.insert(socket, commands);
                let (runtime, inbox, buffers) =
                    (self.runtime.clone(), self.inbox.clone(), self.buffers.clone());
                self.runtime.spawn(datagrams::bind(runtime, socket, address, receiver, inbox, buffers));
            }
            Action::Refuse { ticket, error } => {
                let answer = match self.pending.remove(&ticket) {
                    Some(Pending::Open { answer, .. } | Pending::Associate { answer, .. }) => Some(answer),
                    Some(Pending::Link(_) | Pending::Http(_) | Pending::Socket(_) | Pending::Token(_))
                    | None => None,
                };
                if let Some(answer) = answer {
                    // Fails if nobody waits any more.
                    let _ = answer.send(Err(error));
                }
            }
            Action::AnswerToken { ticket, result } => {
                if let Some(Pending::Token(answer)) = self.pending.remove(&ticket) {
                    // As above.
                    let _ = answer.send(result);
                }
            }
            Action::Listen { listener, address } => self.listen(listener, address),
            Action::Unlisten { listener } => {
                self.listeners.remove(&listener);
            }
            Action::ShutdownWrite { socket } => self.to_socket(socket, StreamCommand::ShutdownWrite),
            Action::Close { socket, linger } => {
                self.to_socket(socket, StreamCommand::Close { linger });
                self.to_datagrams(socket, DatagramCommand::Close);
            }
            Action::Reset { socket } => {
                self.to_socket(socket, StreamCommand::Reset);
                self.to_datagrams(socket, DatagramCommand::Close);
            }
            Action::Stop { .. } => unreachable!("`drain` returns when the engine stops"),
        }
    }

    fn listen(&mut self, listener: ListenerId, address: SocketAddr) {
        let (commands, receiver) = unbounded();
        self.listeners.insert(listener, commands);
        let (runtime, inbox) = (self.runtime.clone(), self.inbox.clone());
        let accepted = {
            let (runtime, inbox) = (runtime.clone(), inbox.clone());
            let requests = self.requests_sender.clone();
            move |Accepted { stream, local, peer }: Accepted<R::Stream>| {
                let (commands, receiver) = unbounded();
                runtime.spawn(stream::offer(runtime.clone(), stream, receiver, inbox.clone()));
                requests.put(Request::Accepted { listener, local, peer, commands });
            }
        };
        self.runtime.spawn(listener::listen(runtime, listener, address, receiver, inbox, accepted));
    }

    /// Tells the task of a link. One that never began, because its visitor left while it was being
    /// let in, reports nothing itself.
    fn to_link(&self, link: LinkId, command: LinkCommand) {
        if let Some(commands) = self.links.get(&link)
            && let Err(unsent) = commands.unbounded_send(command)
            && unsent.into_inner().is_final()
        {
            self.inbox.put(Input::LinkClosed { link, cause: LinkClose::Local });
        }
    }

    /// See [`Self::to_socket`].
    fn to_datagrams(&self, socket: SocketId, command: DatagramCommand) {
        if let Some(commands) = self.datagrams.get(&socket) {
            let _ = commands.unbounded_send(command);
        }
    }

    /// A pump that is gone has reported it, and the engine will ignore what it said last. Ids of
    /// datagram sockets are not among these.
    fn to_socket(&self, socket: SocketId, command: StreamCommand) {
        if let Some(commands) = self.sockets.get(&socket) {
            let _ = commands.unbounded_send(command);
        }
    }
}

async fn resolve<R: Runtime>(runtime: R, query: QueryId, host: String) -> Input {
    let result = match runtime.resolve(host).await {
        Ok(addresses) if addresses.is_empty() => Err(SocketError::NameNotFound),
        Ok(addresses) => Ok(addresses.into()),
        Err(error) => Err(lookup_error(&error)),
    };
    Input::Resolved { query, result }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
