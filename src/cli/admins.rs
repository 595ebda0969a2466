//! `admin`: groups of proxies.

use serde::Serialize;

use super::args::{Admin, AdminName, AdminTypes, Common};
use super::exit::{Exit, Failure};
use super::quality::{brief, values};
use super::{asked, connect_admin, output};
use crate::types::{Code, Level, Rejection};
use crate::wire::admin::{
    AdminList, AdminReport, Answer, PropertyReport, ProxyReport, Subscribed, Target,
};

/// Runs an `admin` command.
pub async fn run(common: &Common, command: &Admin) -> Result<Exit, Failure> {
    match command {
        Admin::Create(flags) => {
            asked::check(Level::Admin, &flags.qos)?;
            let AdminName { channel, name } = &flags.of;
            let types = flags.types.iter().cloned().collect();
            let asker = connect_admin(common)?;
            let answer = asker.create_admin(channel, name, &flags.qos, &types).await?;
            output::result(common.output, &answer, |a| {
                format!("created admin {name} of channel {channel}: {}", brief(&a.value.admin.qos))
            });
        }
        Admin::Ls { channel } => {
            let answer = connect_admin(common)?.admins(channel).await?;
            output::result(common.output, &answer, list);
        }
        Admin::Show(of) => show(common, of).await?,
        Admin::Rm(AdminName { channel, name }) => {
            let answer = connect_admin(common)?.remove_admin(channel, name).await?;
            output::result(common.output, &answer, |a| {
                let proxies = a.value.admin.proxies;
                format!("removed admin {name} of channel {channel}, and its proxies: {proxies}")
            });
        }
        Admin::Subscribe(AdminTypes { of, patterns }) => {
            let answer = connect_admin(common)?.subscribe(&target(of), patterns, &[]).await?;
            output::result(common.output, &answer, subscribed);
        }
        Admin::Unsubscribe(AdminTypes { of, patterns }) => {
            let answer = connect_admin(common)?.subscribe(&target(of), &[], patterns).await?;
            output::result(common.output, &answer, subscribed);
        }
        Admin::Suspend(of) => suspend(common, of, true).await?,
        Admin::Resume(of) => suspend(common, of, false).await?,
    }
    Ok(Exit::Ok)
}

fn target(of: &AdminName) -> Target {
    Target::Admin { channel: of.channel.clone(), admin: of.name.clone() }
}

async fn suspend(common: &Common, of: &AdminName, suspended: bool) -> Result<(), Failure> {
    let answer = connect_admin(common)?.suspend(&target(of), suspended).await?;
    output::result(common.output, &answer, |_| match suspended {
        true => format!("suspended admin {}: its proxies deliver nothing", of.name),
        false => format!("resumed admin {}", of.name),
    });
    Ok(())
}

/// What an admin or a proxy wants now.
pub fn subscribed(answer: &Answer<Subscribed>) -> String {
    let Subscribed { channel, level, name, types, cut } = &answer.value;
    format!(
        "{level} {name} of channel {channel} wants {types}\n\n\
         holds from log index {} on, for all events that are not settled; the first event accepted \
         after it has sequence {}",
        cut.index, cut.next_seq
    )
}

fn list(answer: &Answer<AdminList>) -> String {
    table(&answer.value.admins)
}

/// The admins of a channel.
pub fn table(admins: &[AdminReport]) -> String {
    let mut table = output::table(&["admin", "proxies", "state", "types", "set for it"]);
    for admin in admins {
        table.add_row(vec![
            admin.name.to_string(),
            output::count(admin.proxies),
            if admin.suspended { "suspended" } else { "active" }.into(),
            admin.types.to_string(),
            brief(&admin.qos),
        ]);
    }
    table.to_string()
}

/// An admin with what holds for it, and its proxies.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    admin: AdminReport,
    properties: Vec<PropertyReport>,
    members: Vec<ProxyReport>,
}

async fn show(common: &Common, of: &AdminName) -> Result<(), Failure> {
    let asker = connect_admin(common)?;
    let properties = asker.qos(&target(of)).await?.value.properties;
    let answer = asker.channel(&of.channel).await?;
    let channel = &answer.value;
    let Some(admin) = channel.admins.iter().find(|admin| admin.name == of.name).cloned() else {
        let message = format!("channel '{}' has no admin '{}' any more", of.channel, of.name);
        return Err(Rejection::new(Code::UnknownAdmin, message).into());
    };
    let members = channel.proxies.iter().filter(|p| p.admin == of.name).cloned().collect();
    let shown = Shown { admin, properties, members };
    output::result(common.output, &shown, |shown| {
        let names: Vec<_> = shown.members.iter().map(|p| p.name.as_str()).collect();
        let admin = table(std::slice::from_ref(&shown.admin));
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        format!("{admin}\n\nproxies: {names}\n\n{}", values(&shown.properties))
    });
    Ok(())
}
