//! Finds the owners of addresses with modmem's structures and with what others use, and writes what that costs.

mod contenders;
mod random;
mod speed;
mod timing;
mod workload;

use contenders::Structure;
use speed::{Case, Measure, Speed};
use workload::{Family, Layout};

fn main() -> Result<(), String> {
    let mut speed = Speed::default();
    let t = std::time::Instant::now();
    let sizes = [200, 1500, 10_000, 30_000];
    let _ = Family::ALL;
    for layout in Layout::ALL {
        for count in sizes {
            speed.measure(layout, count, 5)?;
        }
    }
    for layout in Layout::ALL {
        for family in Family::ALL {
            println!("{} {}", layout.name(), family.name());
            for s in Structure::ALL {
                print!("{:30}", s.name());
                for count in sizes {
                    for measure in Measure::ALL {
                        match speed.get(Case { layout, count, family, measure }, s) {
                            Some(s) => print!("{:6.1}", s.median),
                            None => print!("     -"),
                        }
                    }
                    print!(" |");
                }
                println!();
            }
        }
    }
    println!("{:?}", t.elapsed());
    Ok(())
}
