//! What an engine tells: events for subscribers, and the milestones that a handle waits for.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use futures_util::future::{FutureExt, Shared};
use futures_util::stream::StreamExt;
use linksocks_sansio::Event;
use linksocks_sansio::error::StopReason;

/// How many events a subscriber may be late before it misses some.
const EVENT_BUFFER: usize = 1024;

/// Events of an engine, from the subscription on. A subscriber that does not keep up misses events
/// instead of making the process grow. Ends when the engine has stopped.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event, or `None` when the engine has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.next().await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_next_unpin(cx)
    }
}

/// The end of the embedder.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    subscribers: Subscribers,
    listening: Arc<OnceLock<SocketAddr>>,
    ready: Shared<oneshot::Receiver<()>>,
    stopped: Shared<oneshot::Receiver<StopReason>>,
}

/// `None` once the engine has stopped.
type Subscribers = Arc<Mutex<Option<Vec<mpsc::Sender<Event>>>>>;

/// The end of the owner.
#[derive(Debug)]
pub(crate) struct Reporter {
    subscribers: Subscribers,
    listening: Arc<OnceLock<SocketAddr>>,
    link_ready: bool,
    listens: bool,
    ready: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Sender<StopReason>>,
}

/// A connected pair. `listens`: the engine is ready only when its SOCKS listener is open as well.
pub(crate) fn observe(listens: bool) -> (Reporter, Observer) {
    let subscribers = Arc::new(Mutex::new(Some(Vec::new())));
    let listening = Arc::new(OnceLock::new());
    let (ready, is_ready) = oneshot::channel();
    let (stopped, has_stopped) = oneshot::channel();
    let reporter = Reporter {
        subscribers: Arc::clone(&subscribers),
        listening: Arc::clone(&listening),
        link_ready: false,
        listens,
        ready: Some(ready),
        stopped: Some(stopped),
    };
    let observer =
        Observer { subscribers, listening, ready: is_ready.shared(), stopped: has_stopped.shared() };
    (reporter, observer)
}

impl Observer {
    pub(crate) fn events(&self) -> Events {
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = subscribers.as_mut() {
            subscribers.push(sender);
        }
        Events(receiver)
    }

    pub(crate) fn listening(&self) -> Option<SocketAddr> {
        self.listening.get().copied()
    }

    pub(crate) async fn ready(&self) -> Result<(), StopReason> {
        match self.ready.clone().await {
            Ok(()) => Ok(()),
            Err(oneshot::Canceled) => Err(self.stopped().await),
        }
    }

    pub(crate) async fn stopped(&self) -> StopReason {
        self.stopped.clone().await.unwrap_or(StopReason::Aborted)
    }
}

impl Reporter {
    pub(crate) fn event(&mut self, event: &Event) {
        if let Event::SocksListening { local } = event {
            self.listening.get_or_init(|| *local);
        }
        self.link_ready |= matches!(event, Event::LinkReady { .. });
        self.tell_ready();
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = subscribers.as_mut() {
            subscribers.retain_mut(|subscriber| match subscriber.try_send(event.clone()) {
                Ok(()) => true,
                Err(error) => !error.is_disconnected(),
            });
        }
    }

    fn tell_ready(&mut self) {
        if self.link_ready
            && (!self.listens || self.listening.get().is_some())
            && let Some(ready) = self.ready.take()
        {
            // Fails if nobody waits.
            let _ = ready.send(());
        }
    }

    pub(crate) fn stopped(mut self, reason: StopReason) {
        if let Some(stopped) = self.stopped.take() {
            // Fails if nobody waits.
            let _ = stopped.send(reason);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use linksocks_sansio::Event;
    use linksocks_sansio::error::StopReason;

    use super::{EVENT_BUFFER, observe};
    use futures_util::FutureExt;

    fn listening() -> Event {
        Event::SocksListening { local: SocketAddr::from((Ipv4Addr::LOCALHOST, 1080)) }
    }

    #[test]
    fn a_slow_subscriber_misses_events_and_the_end_is_told() {
        let (mut reporter, observer) = observe(false);
        let mut events = observer.events();
        for _ in 0..2 * EVENT_BUFFER {
            reporter.event(&listening());
        }
        reporter.stopped(StopReason::Shutdown);
        let mut count = 0;
        while events.next().now_or_never().expect("the engine has stopped").is_some() {
            count += 1;
        }
        assert!((EVENT_BUFFER..2 * EVENT_BUFFER).contains(&count), "{count}");
        assert_eq!(observer.events().next().now_or_never(), Some(None));
    }

    #[test]
    fn stopping_before_being_ready_is_an_error() {
        let (mut reporter, observer) = observe(true);
        reporter.event(&listening());
        assert!(observer.listening().is_some());
        assert_eq!(observer.ready().now_or_never(), None);
        reporter.stopped(StopReason::Shutdown);
        assert_eq!(observer.ready().now_or_never(), Some(Err(StopReason::Shutdown)));
    }
}
