//! How a node of a quorum of several begins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::types::Uuid;

use super::super::brokers::NodeIdentity;
use super::super::driver::{self, Command, Shared};
use super::super::error::ControllerError;
use super::super::found::FoundMetadata;
use super::super::metadata_log::Home;
use super::super::quorum::{
    Endpoint, Quorum, QuorumOptions, QuorumSettings, ReplicaKey, Request, Response, Voter, VoterChangeRequest,
};
use super::super::{Controller, ControllerOptions, default_controller_endpoint};
use super::log::{Opened, ReplicaLog};
use super::{Leader, Member, MemberCommand, QuorumDescription, peers};

/// What a node of a quorum of several is started with besides.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// The voters as configured (`controller.quorum.voters`): id and where they listen.
    pub voters: Vec<(i32, Endpoint)>,
    /// Whom to ask who leads (`controller.quorum.bootstrap.servers`).
    pub bootstrap: Vec<Endpoint>,
    /// Where this node listens for the quorum; none for a broker alone.
    pub endpoints: Vec<Endpoint>,
    /// Timeouts.
    pub settings: QuorumSettings,
}

impl Controller {
    /// Takes this node's place in a quorum of several. Returns at once: the image is what the newest snapshot holds
    /// until the quorum says what was agreed on.
    ///
    /// # Errors
    /// The disk failed.
    pub fn start_member(
        found: &FoundMetadata,
        options: ControllerOptions,
        member: MemberOptions,
    ) -> Result<Self, ControllerError> {
        let now_ms = options.clock.now_ms();
        let claimant = options.claimant();
        let node = NodeIdentity {
            node_id: options.node_id,
            incarnation_id: Uuid::ZERO,
            endpoints: options.endpoints.clone(),
            controller_endpoint: options
                .controller_endpoint
                .clone()
                .unwrap_or_else(default_controller_endpoint),
            rack: options.config.rack.clone(),
            log_dirs: options.log_dir_ids.clone(),
        };
        let is_clean = options.clean_broker_epoch.is_some();
        let home = Home {
            is_clean,
            home: &options.home,
            claimant: &claimant,
            node: &node,
            config: &options.config,
            now_ms,
        };
        let configured = member.voters.into_iter().map(|(id, endpoint)| Voter {
            key: ReplicaKey::new(id, Uuid::ZERO),
            endpoints: vec![endpoint],
            kraft_versions: (0, 1),
        });
        let opened = ReplicaLog::open(&home, found, configured.collect(), Arc::clone(&options.clock))?;
        let Opened { log, membership, state, may_vote, image, bootstrap } = opened;
        let shared = Shared::new(image, log.newest(), membership.kraft_version());
        let elapsed_ms = i64::try_from(options.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let epoch_ms = now_ms.saturating_sub(elapsed_ms);
        let quorum = QuorumOptions {
            local: ReplicaKey::new(options.node_id, options.metadata_dir_id),
            endpoints: member.endpoints,
            bootstrap: member.bootstrap,
            membership,
            state,
            may_vote,
            settings: member.settings,
            seed: driver::draw_id()
                .0
                .iter()
                .fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte)),
        };
        let quorum = Quorum::open(log, quorum, epoch_ms.saturating_add(elapsed_ms))
            .map_err(|failure| ControllerError::System(failure.0))?;
        let commands = Arc::new(Mutex::new(None));
        let cluster_id: Arc<str> = options.cluster_id.as_str().into();
        let timeout_ms = u64::try_from(member.settings.request_timeout_ms).unwrap_or(1);
        let (peers, peers_thread) = peers::spawn(
            Arc::clone(&cluster_id),
            options.node_id,
            Duration::from_millis(timeout_ms),
            Arc::clone(&options.clock),
            Arc::downgrade(&commands),
        )?;
        let image = shared.image.load_full();
        let clock = Arc::clone(&options.clock);
        let thread = Member {
            quorum,
            shared: Arc::clone(&shared),
            config: driver::dynamic_config(&options.config, &image, options.node_id),
            image,
            office: None,
            bootstrap,
            static_config: Arc::clone(&options.config),
            node_id: options.node_id,
            cluster_id: Arc::clone(&cluster_id),
            clock: options.clock,
            epoch_ms,
            peers,
            peers_thread: Some(peers_thread),
            replies: HashMap::new(),
            next_token: 0,
            commands: Arc::downgrade(&commands),
            last_snapshot_ms: now_ms,
            writing: None,
            failure: None,
        };
        let (sender, thread) = driver::spawn(move |receiver| thread.run(receiver))?;
        *commands.lock() = Some(sender);
        Ok(Self::of((shared, commands, thread), options.node_id, cluster_id, options.config, clock, true))
    }

    /// Who leads the quorum, and every change of it.
    #[must_use]
    pub fn leader(&self) -> tokio::sync::watch::Receiver<Leader> {
        self.shared.leader.subscribe()
    }

    /// Answers another node of the quorum. `None` where this node takes no part (any more).
    pub async fn quorum_request(&self, request: Request) -> Option<Response> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Member(MemberCommand::Asked { request, reply }));
        answer.await.ok()
    }

    /// Changes the set of voters, where this node leads. `None` as above.
    pub async fn change_voters(&self, request: VoterChangeRequest) -> Option<Response> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Member(MemberCommand::ChangeVoters { request, reply }));
        answer.await.ok()
    }

    /// How the quorum is, as far as this node knows. `None` as above, and where it is alone.
    pub async fn describe_quorum(&self) -> Option<QuorumDescription> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Member(MemberCommand::Describe(reply)));
        answer.await.ok()
    }
}
