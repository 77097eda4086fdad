//! Finds the owners of addresses with modmem's structures and with what others use, and writes what that costs.

mod beside_writer;
mod churn;
mod contenders;
mod counting;
mod memory;
mod options;
mod processor;
mod protection_cost;
mod random;
mod report;
mod results;
mod side_by_side;
mod speed;
mod thread_case;
mod timing;
mod updates;
mod workload;

use std::error::Error;

use options::Options;
use results::Results;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == memory::CHILD) {
        return Ok(memory::child(&arguments[1..])?);
    }
    let options = Options::parse(arguments)?;
    let results = Results::measure(&options)?;
    let report = report::Report::new(&results);
    println!("{}", report.to_text());
    if let Some(folder) = &options.docs {
        report.write(folder)?;
    }
    Ok(())
}
