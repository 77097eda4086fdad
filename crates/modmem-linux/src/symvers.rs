//! `Module.symvers`: what a kernel and its modules export, as its build wrote it down.

use crate::KernelSymbol;

/// Does the file look like `Module.symvers`: a checksum, a tab, a name?
pub(crate) fn is_symvers(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"0x") && line.contains(&b'\t')
}

/// What the kernel itself exports, sorted by name. Lines of modules are passed over; so is what makes no sense.
pub(crate) fn kernel_symbols(text: &str) -> Vec<KernelSymbol> {
    let mut symbols: Vec<KernelSymbol> = text.lines().filter_map(kernel_symbol).collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    symbols.dedup_by(|a, b| a.name == b.name);
    symbols
}

/// Fields: checksum, name, `vmlinux` or the module's path, `EXPORT_SYMBOL` or `EXPORT_SYMBOL_GPL`, namespace.
fn kernel_symbol(line: &str) -> Option<KernelSymbol> {
    let mut fields = line.split('\t');
    let crc = u32::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    let name = fields.next().filter(|name| !name.is_empty())?;
    let owner = fields.next()?;
    let export = fields.next()?;
    if !matches!(owner, "vmlinux" | "vmlinux.o") || !export.starts_with("EXPORT_SYMBOL") {
        return None;
    }
    let namespace = fields.next().map(str::trim).filter(|namespace| !namespace.is_empty());
    Some(KernelSymbol {
        name: name.into(),
        address: None,
        gpl_only: export.contains("_GPL"),
        // A build without modversions writes zeros.
        crc: Some(crc).filter(|crc| *crc != 0),
        namespace: namespace.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read_and_the_modules_lines_are_not() {
        let text = "0x92997ed8\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n\
                    0x00000000\tdma_buf_get\tvmlinux\tEXPORT_SYMBOL_GPL\tDMA_BUF\n\
                    0x12345678\tjbd2_init\tfs/jbd2/jbd2\tEXPORT_SYMBOL\t\n\
                    nonsense\n0xzz\tx\tvmlinux\tEXPORT_SYMBOL\n";
        assert!(is_symvers(text.as_bytes()));
        let symbols = kernel_symbols(text);
        assert_eq!(symbols.len(), 2);
        assert_eq!(
            (&*symbols[0].name, symbols[0].crc, symbols[0].gpl_only),
            ("_printk", Some(0x9299_7ed8), false)
        );
        assert_eq!((&*symbols[1].name, symbols[1].crc, symbols[1].gpl_only), ("dma_buf_get", None, true));
        assert_eq!(symbols[1].namespace.as_deref(), Some("DMA_BUF"));
    }
}
