//! `admin`: groups of proxies, of either side.

use serde::Serialize;

use super::args::{Admin, AdminName, AdminTypes, Common};
use super::exit::{Exit, Failure};
use super::proxies::lane_name;
use super::quality::{brief, values};
use super::{asked, connect_admin, output};
use crate::types::{Code, Level, Rejection, Side};
use crate::wire::admin::{
    AdminList, AdminReport, Answer, LaneReport, PropertyReport, ProxyReport, Subscribed, Target,
};

/// Runs an `admin` command.
pub async fn run(common: &Common, command: &Admin) -> Result<Exit, Failure> {
    match command {
        Admin::Create(flags) => {
            let side = flags.of.side();
            asked::check(side.admin_level(), &flags.qos)?;
            let AdminName { channel, name, .. } = &flags.of;
            let types = flags.types.iter().cloned().collect();
            let asker = connect_admin(common)?;
            let answer = asker.create_admin(channel, side, name, &flags.qos, &types).await?;
            output::result(common.output, &answer, |a| {
                let (what, set) = (level(side), brief(&a.value.admin.qos));
                format!("created {what} {name} of channel {channel}: {set}")
            });
        }
        Admin::Ls { channel } => {
            let answer = connect_admin(common)?.admins(channel).await?;
            output::result(common.output, &answer, list);
        }
        Admin::Show(of) => show(common, of).await?,
        Admin::Rm(of) => {
            let AdminName { channel, name, .. } = of;
            let answer = connect_admin(common)?.remove_admin(channel, of.side(), name).await?;
            output::result(common.output, &answer, |a| {
                let (what, members) = (level(of.side()), members(of.side()));
                let count = a.value.admin.proxies;
                format!("removed {what} {name} of channel {channel}, and its {members}: {count}")
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
    Target::Admin { channel: of.channel.clone(), side: of.side(), admin: of.name.clone() }
}

fn level(side: Side) -> Level {
    side.admin_level()
}

fn members(side: Side) -> &'static str {
    match side {
        Side::Consumer => "proxies",
        Side::Supplier => "lanes",
    }
}

async fn suspend(common: &Common, of: &AdminName, suspended: bool) -> Result<(), Failure> {
    let answer = connect_admin(common)?.suspend(&target(of), suspended).await?;
    let (what, name) = (level(of.side()), &of.name);
    output::result(common.output, &answer, |_| match (suspended, of.side()) {
        (true, Side::Consumer) => format!("suspended {what} {name}: its proxies deliver nothing"),
        (true, Side::Supplier) => format!("suspended {what} {name}: its lanes take nothing"),
        (false, _) => format!("resumed {what} {name}"),
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
    let mut table = output::table(&["side", "admin", "proxies", "state", "types", "set for it"]);
    for admin in admins {
        table.add_row(vec![
            admin.side.to_string(),
            admin.name.to_string(),
            output::count(admin.proxies),
            if admin.suspended { "suspended" } else { "active" }.into(),
            match admin.side {
                Side::Consumer => admin.types.to_string(),
                Side::Supplier => "-".into(),
            },
            brief(&admin.qos),
        ]);
    }
    table.to_string()
}

/// An admin with what holds for it, and its proxies or lanes.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    admin: AdminReport,
    properties: Vec<PropertyReport>,
    members: Vec<ProxyReport>,
    /// Of a supplier admin.
    lanes: Vec<LaneReport>,
}

async fn show(common: &Common, of: &AdminName) -> Result<(), Failure> {
    let asker = connect_admin(common)?;
    let properties = asker.qos(&target(of)).await?.value.properties;
    let answer = asker.channel(&of.channel).await?;
    let channel = &answer.value;
    let Some(admin) = channel.admin(of.side(), &of.name).cloned() else {
        let what = level(of.side());
        let message = format!("channel '{}' has no {what} '{}' any more", of.channel, of.name);
        return Err(Rejection::new(Code::UnknownAdmin, message).into());
    };
    let (proxies, lanes) = (channel.proxies.iter(), channel.suppliers.lanes.iter());
    let (proxies, lanes) = match of.side() {
        Side::Consumer => (proxies.filter(|p| p.admin == of.name).cloned().collect(), Vec::new()),
        Side::Supplier => (Vec::new(), lanes.filter(|l| l.admin == of.name).cloned().collect()),
    };
    let shown = Shown { admin, properties, members: proxies, lanes };
    output::result(common.output, &shown, |shown| {
        let proxies = shown.members.iter().map(|proxy| proxy.name.to_string());
        let names: Vec<_> = proxies.chain(shown.lanes.iter().map(lane_name)).collect();
        let admin = table(std::slice::from_ref(&shown.admin));
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        let members = members(of.side());
        format!("{admin}\n\n{members}: {names}\n\n{}", values(&shown.properties))
    });
    Ok(())
}
