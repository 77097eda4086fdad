//! The compact map: change bits for 32 pages and values behind them.
