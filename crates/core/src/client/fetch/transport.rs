//! The transport of a download, which counts what comes from the network as it comes: neither the
//! framing of a chunked body nor that of TLS can hide that a server trickles.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};

use super::speed::{SpeedFloor, SpeedWatch};

/// Returns ureq's usual connectors, with a count of what comes from the network.
pub(super) fn connector() -> impl Connector {
    ().chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(Counting)
        .chain(RustlsConnector::default())
}

thread_local! {
    /// The speed of the body that this thread reads.
    static WATCH: RefCell<Option<SpeedWatch>> = const { RefCell::new(None) };
    /// The rate of that body if it is too low, in bytes per second.
    static SLOW_RATE: Cell<Option<u64>> = const { Cell::new(None) };
    /// Whether a transport waits already: that to a proxy lies below the one through it.
    static IS_WAITING: Cell<bool> = const { Cell::new(false) };
}

/// The watch over the speed of a body, which the calling thread reads while it has this value.
pub(super) struct BodyWatch(());

impl BodyWatch {
    /// Begins to watch. Reads fail once the body is too slow.
    pub(super) fn begin(floor: SpeedFloor) -> Self {
        WATCH.set(Some(SpeedWatch::new(floor)));
        SLOW_RATE.set(None);
        Self(())
    }

    /// Returns the rate, in bytes per second, if it was too low.
    pub(super) fn slow_rate(&self) -> Option<u64> {
        SLOW_RATE.get()
    }
}

impl Drop for BodyWatch {
    fn drop(&mut self) {
        WATCH.set(None);
    }
}

#[derive(Debug)]
struct Counting;

impl<In: Transport> Connector<In> for Counting {
    type Out = Counted<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(Counted))
    }
}

#[derive(Debug)]
struct Counted<T>(T);

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if IS_WAITING.replace(true) {
            return self.0.await_input(timeout);
        }
        let (before, asked) = (self.0.buffers().input().len(), Instant::now());
        let result = self.0.await_input(timeout);
        IS_WAITING.set(false);
        let came = self.0.buffers().input().len().saturating_sub(before);
        let note = |watch: &mut Option<SpeedWatch>| watch.as_mut()?.note(asked.elapsed(), came);
        let slow_rate = WATCH.with_borrow_mut(note);
        // At its end, a body is as fast as it was.
        if slow_rate.is_none() || matches!(result, Ok(false)) {
            return result;
        }
        SLOW_RATE.set(slow_rate);
        Err(Error::Other("the server is too slow".into()))
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
