//! FindCoordinator: what each version of it says.

use klamm::protocol::Str;
use klamm::protocol::messages::find_coordinator_request::FindCoordinatorRequest;

use crate::harness::{TestBroker, name_of};

#[tokio::test]
async fn coordinators_are_found_as_old_versions_say_it() {
    let broker = TestBroker::with(1, &[]).await;
    let mut client = broker.connect();
    let one = |key_type: i8| FindCoordinatorRequest { key: Str::from("g"), key_type, ..Default::default() };
    for version in 1..=3 {
        let found = client.ask(version, &one(0)).await;
        assert_eq!((found.error_code, found.error_message.as_deref()), (0, Some("NONE")), "{version}");
        assert_eq!(name_of(client.ask(version, &one(2)).await.error_code), "INVALID_REQUEST", "{version}");
    }
    let many = |key_type: i8| FindCoordinatorRequest {
        coordinator_keys: vec![Str::from("g")],
        key_type,
        ..FindCoordinatorRequest::default()
    };
    for (version, share) in [(4, "INVALID_REQUEST"), (5, "INVALID_REQUEST"), (6, "COORDINATOR_NOT_AVAILABLE")]
    {
        let found = client.ask(version, &many(0)).await.coordinators.remove(0);
        assert_eq!(found.error_message.as_deref(), Some(""), "{version}");
        let found = client.ask(version, &many(2)).await.coordinators.remove(0);
        assert_eq!(name_of(found.error_code), share, "{version}");
    }
}
