//! The list of scenarios.

use anyhow::Result;
use serde::Serialize;

use super::Output;
use crate::scenarios;

/// One scenario, as listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    guards: &'static str,
    nodes: usize,
    seconds: u64,
    smoke: bool,
    needs: String,
}

/// Prints it.
pub fn list(output: Output) -> Result<u8> {
    let listed: Vec<Listed> = scenarios::all()
        .map(|scenario| Listed {
            name: scenario.name,
            guards: scenario.guards,
            nodes: scenario.nodes,
            seconds: scenario.seconds,
            smoke: scenario.smoke,
            needs: scenario.bed.describe(),
        })
        .collect();
    if output == Output::Json {
        println!("{}", serde_json::to_string(&listed)?);
        return Ok(0);
    }
    for one in listed {
        let mark = if one.smoke { ", smoke" } else { "" };
        println!("{}  ({} nodes, {} s{mark})", one.name, one.nodes, one.seconds);
        println!("    {}", one.guards);
        if !one.needs.is_empty() {
            println!("    needs: {}", one.needs);
        }
    }
    Ok(0)
}
