//! Listening to a BMC's stream of events.

use super::{Client, send::Request};
use crate::{
    bmc::{
        events::Parser,
        redfish::wire::{EventService, Link},
    },
    model::{Failure, failure::Cause},
};

/// An open stream; it ends with its value.
pub struct Events {
    node: String,
    response: reqwest::Response,
    parser: Parser,
}

impl Client {
    /// Opens the stream. `None`: this BMC has none, and is asked now and then instead.
    ///
    /// # Errors
    /// It names one and does not give it.
    pub async fn events(&self) -> Result<Option<Events>, Failure> {
        let Some(path) = Link::path(&self.root.event_service) else { return Ok(None) };
        let service: EventService = super::parsed(self.wire.ask(&Request::get(path)).await?.body);
        if service.enabled == Some(false) {
            return Ok(None);
        }
        let Some(stream) = service.stream.filter(|uri| !uri.is_empty()) else { return Ok(None) };
        let response = self.wire.stream(&Request::get(&stream)).await?;
        Ok(Some(Events { node: self.wire.node.clone(), response, parser: Parser::default() }))
    }
}

impl Events {
    /// Until an event comes. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn next(&mut self) -> Result<(), Failure> {
        let ended = |why: String| Failure::new(Cause::Unreachable, format!("{}: hear its events", self.node), why);
        loop {
            match self.response.chunk().await {
                Ok(Some(chunk)) => {
                    if self.parser.feed(&chunk) > 0 {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(ended("the BMC ended the stream".into())),
                Err(e) => return Err(ended(format!("the stream broke off: {e}"))),
            }
        }
    }
}
