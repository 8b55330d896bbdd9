//! Quotas of clients and users: numbers, behind DescribeClientQuotas and AlterClientQuotas.

use anyhow::bail;

use super::{Change, ConfigView, Entity, Operation};
use crate::client::{BrokerError, Cluster};
use crate::protocol::messages::alter_client_quotas_request as alter;
use crate::protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};

/// `DescribeClientQuotas` matches a name exactly, or the default of the kind.
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;

/// The quotas that are set for exactly this entity.
pub(super) async fn get(
    cluster: &Cluster,
    entity_type: &'static str,
    name: Option<&str>,
) -> anyhow::Result<Vec<ConfigView>> {
    let component = ComponentData {
        entity_type: entity_type.into(),
        match_type: if name.is_some() { MATCH_EXACT } else { MATCH_DEFAULT },
        match_: name.map(Into::into),
        ..Default::default()
    };
    let request =
        DescribeClientQuotasRequest { components: vec![component], strict: true, ..Default::default() };
    let answer = cluster.any(&request).await?;
    BrokerError::check(answer.error_code, || "quotas".to_owned(), answer.error_message.as_deref())?;
    let values = answer.entries.iter().flatten().flat_map(|entry| &entry.values);
    let views = values.map(|value| ConfigView {
        key: value.key.to_string(),
        value: Some(value.value.to_string()),
        source: "QUOTA",
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        documentation: None,
    });
    Ok(views.collect())
}

/// Sets and removes quotas.
pub(super) async fn change(
    cluster: &Cluster,
    entity_type: &'static str,
    entity: &Entity,
    changes: &[Change],
    validate_only: bool,
) -> anyhow::Result<()> {
    let mut ops = Vec::new();
    for change in changes {
        let value = match (change.operation, change.value.as_deref()) {
            (Operation::Delete, _) => 0.0,
            (Operation::Set, Some(text)) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => number,
                _ => bail!("{}={text}: a quota is a number", change.key),
            },
            _ => bail!("{}: a quota is a number, not a list", change.key),
        };
        ops.push(alter::OpData {
            key: change.key.as_str().into(),
            value,
            remove: change.operation == Operation::Delete,
            ..Default::default()
        });
    }
    let component = alter::EntityData {
        entity_type: entity_type.into(),
        entity_name: entity.name().map(Into::into),
        ..Default::default()
    };
    let request = alter::AlterClientQuotasRequest {
        entries: vec![alter::EntryData { entity: vec![component], ops, ..Default::default() }],
        validate_only,
        ..Default::default()
    };
    let answer = cluster.controller(&request).await?;
    for entry in &answer.entries {
        BrokerError::check(entry.error_code, || entity.to_string(), entry.error_message.as_deref())?;
    }
    Ok(())
}
