//! DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44), ListConfigResources (74): settings
//! of topics and brokers, from the one table of keys. What concerns one broker is taken at that broker alone.

use std::sync::Arc;

use super::call::{Call, text};
use super::error_map::Failure;
use super::node::Node;
use crate::config::{BrokerConfig, DescribedConfig, Synonym, describe_client_metrics};
use crate::metadata::{ConfigResource as Resource, ConfigResourceType, Image};
use crate::net::Reply;
use crate::protocol::messages::alter_configs_request::AlterConfigsRequest;
use crate::protocol::messages::alter_configs_response::{self, AlterConfigsResponse};
use crate::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use crate::protocol::messages::incremental_alter_configs_response::{self, IncrementalAlterConfigsResponse};
use crate::protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use crate::protocol::messages::list_config_resources_response::{
    ConfigResource, ListConfigResourcesResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::types::TopicName;

/// Whose settings are described, and what they come from.
pub(super) struct Described<'a> {
    /// `node.id`.
    pub node_id: i32,
    /// What the cluster has agreed on.
    pub image: &'a Image,
    /// The configuration in force.
    pub config: &'a BrokerConfig,
}

/// DescribeConfigs at a broker.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let (image, config) = (node.image(), node.config());
    describe_of(&Described { node_id: node.id.0, image: &image, config: &config }, call)
}

/// DescribeConfigs, versions 1 to 4: the same at a broker and at a controller.
///
/// # Errors
/// The request is malformed.
pub(super) fn describe_of(node: &Described<'_>, call: &Call) -> Result<Reply, DecodeError> {
    let request: DescribeConfigsRequest = call.decode()?;
    let results = request.resources.iter().map(|resource| describe_resource(node, &request, resource));
    let results = results.collect();
    Ok(call.reply(&DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }))
}

fn describe_resource(
    node: &Described<'_>,
    request: &DescribeConfigsRequest,
    resource: &DescribeConfigsResource,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    };
    match settings_of(node, resource) {
        Ok(described) => {
            let is_asked = |config: &DescribedConfig| match &resource.configuration_keys {
                Some(keys) if !keys.is_empty() => keys.iter().any(|key| *key == config.name),
                _ => true,
            };
            let asked = described.into_iter().filter(is_asked);
            result.configs = asked.map(|config| entry(config, request)).collect();
        }
        Err(failure) => {
            result.error_code = failure.code.code();
            result.error_message = failure.message.and_then(text);
        }
    }
    result
}

fn settings_of(
    node: &Described<'_>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribedConfig>, Failure> {
    let Described { node_id, image, config } = *node;
    let name = resource.resource_name.as_str();
    let invalid = |message: String| Failure::new(ErrorCode::InvalidRequest, message);
    match ConfigResourceType::from_id(resource.resource_type) {
        Some(ConfigResourceType::Topic) => {
            TopicName::new(name)
                .map_err(|error| Failure::new(ErrorCode::InvalidTopicException, error.to_string()))?;
            if image.topic(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            Ok(config.describe_topic(&image.configs(&Resource::topic(name))))
        }
        Some(ConfigResourceType::Broker) if name.is_empty() => Ok(config.describe_cluster_default()),
        Some(ConfigResourceType::Broker) if name == node_id.to_string() => Ok(config.describe()),
        Some(ConfigResourceType::Broker) => {
            Err(invalid(format!("broker {name:?} is asked for; this is broker {node_id}")))
        }
        Some(kind @ (ConfigResourceType::Group | ConfigResourceType::ClientMetrics)) if name.is_empty() => {
            Err(invalid(format!("a {kind:?} resource needs a name")))
        }
        Some(kind @ ConfigResourceType::Group) => {
            Ok(config.describe_group(&image.configs(&Resource::new(kind, name))))
        }
        Some(kind @ ConfigResourceType::ClientMetrics) => {
            Ok(describe_client_metrics(&image.configs(&Resource::new(kind, name))))
        }
        Some(ConfigResourceType::BrokerLogger) => {
            Err(invalid("klamm's log levels are set by the environment variable KLAMM_LOG".to_owned()))
        }
        None => Err(invalid(format!("there is no resource type {}", resource.resource_type))),
    }
}

fn entry(config: DescribedConfig, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonym = |synonym: Synonym| DescribeConfigsSynonym {
        name: Str::from(synonym.name),
        value: synonym.value.map(Str::from),
        source: synonym.source.id(),
        ..DescribeConfigsSynonym::default()
    };
    let synonyms = if request.include_synonyms { config.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: Str::from(config.name),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: config.source.id(),
        is_sensitive: config.is_sensitive,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: config.kind.wire_type(),
        documentation: if request.include_documentation { text(config.documentation) } else { None },
        ..DescribeConfigsResourceResult::default()
    }
}

/// AlterConfigs, versions 0 to 2: decided by the controller.
///
/// # Errors
/// The request is malformed.
pub fn alter(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let mut request: AlterConfigsRequest = call.decode()?;
    call.forget_frame();
    let refused = take_out(&mut request.resources, |resource| {
        let failure = of_another_broker(node, resource.resource_type, &resource.resource_name)?;
        Some(alter_configs_response::AlterConfigsResourceResponse {
            error_code: failure.code.code(),
            error_message: failure.message.and_then(text),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        })
    });
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let mut response = match request.resources.is_empty() && !refused.is_empty() {
            true => AlterConfigsResponse::default(),
            false => node.controller.alter_configs(request).await,
        };
        put_back(&mut response.responses, refused);
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// IncrementalAlterConfigs, versions 0 and 1: decided by the controller.
///
/// # Errors
/// The request is malformed.
pub fn alter_incrementally(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let mut request: IncrementalAlterConfigsRequest = call.decode()?;
    call.forget_frame();
    let refused = take_out(&mut request.resources, |resource| {
        let failure = of_another_broker(node, resource.resource_type, &resource.resource_name)?;
        Some(incremental_alter_configs_response::AlterConfigsResourceResponse {
            error_code: failure.code.code(),
            error_message: failure.message.and_then(text),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        })
    });
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let mut response = match request.resources.is_empty() && !refused.is_empty() {
            true => IncrementalAlterConfigsResponse::default(),
            false => node.controller.incremental_alter_configs(request).await,
        };
        put_back(&mut response.responses, refused);
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// A broker's settings are changed at that broker, which alone knows what stands in its file.
fn of_another_broker(node: &Node, resource_type: i8, name: &str) -> Option<Failure> {
    let is_brokers = ConfigResourceType::from_id(resource_type) == Some(ConfigResourceType::Broker);
    if !is_brokers || name.is_empty() || name.parse() == Ok(node.id.0) {
        return None;
    }
    let message = format!("The settings of broker {name:?} were sent to broker {}.", node.id);
    Some(Failure::new(ErrorCode::InvalidRequest, message))
}

/// Takes those out that are refused here; the answers to them, and where they stood.
fn take_out<T, A>(resources: &mut Vec<T>, refuse: impl Fn(&T) -> Option<A>) -> Vec<(usize, A)> {
    let mut refused = Vec::new();
    let mut place = 0;
    resources.retain(|resource| {
        let refusal = refuse(resource).map(|answer| refused.push((place, answer)));
        place += 1;
        refusal.is_none()
    });
    refused
}

/// Answers stand in the order of what was asked.
fn put_back<A>(answers: &mut Vec<A>, refused: Vec<(usize, A)>) {
    for (place, answer) in refused {
        answers.insert(place.min(answers.len()), answer);
    }
}

/// ListConfigResources, versions 0 (subscriptions to client metrics only) and 1.
///
/// # Errors
/// The request is malformed.
pub fn list_resources(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: ListConfigResourcesRequest = call.decode()?;
    let asked = match (call.version, request.resource_types.as_slice()) {
        (0, _) => vec![ConfigResourceType::ClientMetrics.id()],
        (_, []) => KINDS.iter().map(|kind| kind.id()).collect(),
        (_, types) => types.to_vec(),
    };
    let mut response = ListConfigResourcesResponse::default();
    if asked.iter().any(|id| ConfigResourceType::from_id(*id).is_none()) {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        return Ok(call.reply(&response));
    }
    let image = node.image();
    for kind in KINDS.iter().filter(|kind| asked.contains(&kind.id())) {
        response.config_resources.extend(names_of(&image, *kind).into_iter().map(|name| ConfigResource {
            resource_name: Str::from(name),
            resource_type: kind.id(),
            ..ConfigResource::default()
        }));
    }
    Ok(call.reply(&response))
}

const KINDS: [ConfigResourceType; 5] = [
    ConfigResourceType::Topic,
    ConfigResourceType::Broker,
    ConfigResourceType::BrokerLogger,
    ConfigResourceType::ClientMetrics,
    ConfigResourceType::Group,
];

fn names_of(image: &Image, kind: ConfigResourceType) -> Vec<String> {
    match kind {
        ConfigResourceType::Topic => image.topics().iter().map(|topic| topic.name.to_string()).collect(),
        ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
            image.brokers().keys().map(ToString::to_string).collect()
        }
        ConfigResourceType::ClientMetrics | ConfigResourceType::Group => {
            let of_kind = image.config_resources().filter(|resource| resource.type_id == kind.id());
            of_kind.map(|resource| resource.name.clone()).collect()
        }
    }
}
