//! Defines consumers of real nodes anew, over the admin service of whichever member answers.

use std::time::Duration;

use aqueduct::client::{AdminClient, AdminError};
use aqueduct::types::{Code, Name, Rejection};
use aqueduct::wire::admin::{self, Target};

use super::eyes::RealEyes;
use crate::history::{Cut, Definition, Outcome};
use crate::workloads::{Eyes, Hands, changes};

/// How long one change may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);

impl Hands for RealEyes {
    async fn redefine(&self, channel: &str, consumer: &str, to: &Definition) -> Outcome<Cut> {
        // Members that are down are passed over by and by.
        let nodes = self.nodes();
        let turn = self.turn();
        let via =
            nodes.get(turn % nodes.len().max(1)).and_then(|via| self.admin(*via, CHANGE_WITHIN));
        let Some(client) = via else { return Outcome::Fail("unreachable".into()) };
        match tokio::time::timeout(2 * CHANGE_WITHIN, change(&client, channel, consumer, to)).await
        {
            Ok(Ok(cut)) => Outcome::Ok(cut),
            Ok(Err(AdminError::Refused(refused))) if refused.code != Code::TenureLost => {
                Outcome::Fail(refused.code.to_string())
            }
            Ok(Err(error)) => Outcome::Unknown(error.to_string()),
            Err(_) => Outcome::Unknown("no answer in time".into()),
        }
    }
}

async fn change(
    client: &AdminClient,
    channel: &str,
    consumer: &str,
    to: &Definition,
) -> Result<Cut, AdminError> {
    let name =
        |text: &str| Name::new(text).map_err(|e| Rejection::new(Code::BadRequest, e.to_string()));
    let target =
        name(channel).and_then(|channel| Ok(Target::Proxy { channel, proxy: name(consumer)? }));
    let target = target.map_err(AdminError::Refused)?;
    let (tenure, admin::Cut { index, .. }) = match to {
        Definition::Qos(wish) => {
            let changes = changes(wish).map_err(AdminError::Refused)?;
            let answer = client.set_qos(&target, &changes).await?;
            (answer.tenure.0, answer.value.cut)
        }
        Definition::Suspended(suspended) => {
            let answer = client.suspend(&target, *suspended).await?;
            (answer.tenure.0, answer.value.cut)
        }
    };
    // A tenure begun after that place says nothing of it.
    Ok(Cut { index, tenure: if tenure <= index { tenure } else { 0 } })
}
