//! Where a request is decided: here, where this node is the active controller, else there, over one connection to
//! the active controller's listener. Nobody in office, or the office lost meanwhile: asked again until the time is
//! over, and then NOT_CONTROLLER.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::net::outgoing::{Address, Connection, ConnectionError, ConnectionOptions};
use crate::protocol::{ErrorCode, Request};
use crate::types::Clock;

use super::decision::{Answer, Context, Decision, Refusal};
use super::driver::{Command, Pending};
use super::quorum::Endpoint;
use super::{Controller, Leader};

/// How long a request waits for a controller that answers: less than the 30 seconds after which clients listen no more,
/// who would not hear why.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a controller may be silent: it may have been cut off.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before somebody is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The way to the active controller.
pub(super) struct Channel {
    options: ConnectionOptions,
    connection: tokio::sync::Mutex<Option<(Endpoint, Connection)>>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(node_id: i32, clock: Arc<dyn Clock>) -> Arc<Self> {
        let options = ConnectionOptions {
            client_id: format!("klamm-broker-{node_id}").into(),
            request_timeout: ANSWER_TIMEOUT,
            clock,
            ..ConnectionOptions::default()
        };
        Arc::new(Self { options, connection: tokio::sync::Mutex::new(None) })
    }

    async fn connection(&self, to: &Endpoint) -> Result<Connection, ConnectionError> {
        let mut known = self.connection.lock().await;
        if let Some((place, connection)) = &*known
            && place == to
            && connection.broken().is_none()
        {
            return Ok(connection.clone());
        }
        let address = Address::Tcp { host: to.host.clone(), port: to.port };
        let connection = Connection::connect(&address, &self.options).await?;
        *known = Some((to.clone(), connection.clone()));
        Ok(connection)
    }
}

/// Why nobody has decided.
fn nobody_in_office(leader: &Leader, forwards: bool) -> String {
    match leader.id {
        None => "The cluster has no active controller: its quorum has no leader, as where most of the voters are away."
            .to_owned(),
        Some(id) if leader.is_active => format!("The active controller, node {id}, is losing its office; try again."),
        Some(id) if !forwards => format!("This is not the active controller: node {id} is."),
        Some(id) => format!("No active controller answers: the last one that is known is node {id}."),
    }
}

impl Controller {
    /// A handle that decides here or not at all: for what comes in through the controller's own listener.
    #[must_use]
    pub fn without_forwarding(&self) -> Self {
        Self { forwards: false, ..self.clone() }
    }

    /// Has `request` decided, here or where the active controller is.
    pub(super) async fn ask<R>(
        &self,
        request: R,
        decide: impl Fn(&mut Context<'_>, &R) -> Decision<R::Response> + Clone + Send + Sync + 'static,
    ) -> R::Response
    where
        R: Request + Send + Sync + 'static,
        R::Response: Answer,
    {
        let request = Arc::new(request);
        if !self.is_member {
            return self.decide(move |context| decide(context, &request)).await;
        }
        let deadline = self.channel.options.clock.elapsed() + PATIENCE;
        let mut changes = self.leader();
        loop {
            let leader = changes.borrow_and_update().clone();
            let answer = tokio::select! {
                biased;
                answer = self.ask_once(&leader, &request, decide.clone()) => answer,
                // Whoever was asked may have been cut off: nobody waits for its answer.
                _ = changes.wait_for(|known| known.epoch != leader.epoch) => continue,
            };
            match answer {
                Ok(answer) if !answer.codes().contains(&ErrorCode::NotController.code()) => return answer,
                Err(ConnectionError::UnsupportedVersion { peer, .. }) => {
                    let why = format!("The controller at {peer} does not know this request.");
                    return self.refuse(&*request, decide, ErrorCode::UnsupportedVersion, &why);
                }
                _ => {}
            }
            let clock = &self.channel.options.clock;
            if !self.forwards || clock.elapsed() >= deadline {
                let why = nobody_in_office(&leader, self.forwards);
                return self.refuse(&*request, decide, ErrorCode::NotController, &why);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = clock.wait(RETRY_PAUSE) => {}
            }
        }
    }

    /// The leader's own answer to what is not a decision; `None` where that is this node, or nobody is known.
    pub async fn pass_on<R: Request>(&self, request: &R) -> Option<R::Response> {
        let leader = self.leader().borrow().clone();
        let endpoint = leader.endpoint.filter(|_| self.forwards && leader.id != Some(self.node_id))?;
        self.channel.connection(&endpoint).await.ok()?.call(request).await.ok()
    }

    /// Asks whoever is in office, if somebody is.
    async fn ask_once<R>(
        &self,
        leader: &Leader,
        request: &Arc<R>,
        decide: impl Fn(&mut Context<'_>, &R) -> Decision<R::Response> + Send + Sync + 'static,
    ) -> Result<R::Response, ConnectionError>
    where
        R: Request + Send + Sync + 'static,
        R::Response: Answer,
    {
        let nobody =
            || ConnectionError::Disconnected { peer: "controller".into(), why: "not in office".into() };
        if leader.is_active {
            let (reply, answer) = oneshot::channel();
            let asked = Arc::clone(request);
            let job = Pending::new(move |context: &mut Context<'_>| decide(context, &asked), reply);
            self.send(Command::Decide(Box::new(job)));
            return answer.await.map_err(|_| nobody());
        }
        match &leader.endpoint {
            Some(endpoint) if self.forwards && leader.id != Some(self.node_id) => {
                self.channel.connection(endpoint).await?.call(&**request).await
            }
            _ => Err(nobody()),
        }
    }

    /// The answer that refuses all of a request.
    fn refuse<R>(
        &self,
        request: &R,
        decide: impl Fn(&mut Context<'_>, &R) -> Decision<R::Response>,
        code: ErrorCode,
        why: &str,
    ) -> R::Response
    where
        R: Request,
        R::Response: Answer,
    {
        self.refuse_all(&|context: &mut Context<'_>| decide(context, request), &Refusal::new(code, why))
    }
}
