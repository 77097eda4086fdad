#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Rebuilds samples/root from samples/src. Needs gcc and binutils for x86-64, and
# depmod (kmod). The same compiler and linker give the same bytes.
#
#   samples/build.sh            rebuild in place
#   samples/build.sh --check    rebuild elsewhere and compare
set -eu
export LC_ALL=C
cd "$(dirname "$0")"

release=6.12.0-sample
src=$PWD/src
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cross=${CROSS_COMPILE-}
root=root
if [ "${1-}" = --check ]; then
	cp -a root "$work/root"
	root=$work/root
fi
lib=$root/lib/modules/$release
mkdir -p "$lib" "$root/boot"

checksum() { printf '0x%08x' "$(printf %s "$1" | cksum | cut -d' ' -f1)"; }

# Where each module goes, and what it is made of.
modules='
kernel/lib/sample_lib               sample_lib
kernel/lib/sample_nodata            sample_nodata
kernel/lib/sample_data              sample_data
kernel/drivers/crypto/sample_crypto sample_crypto
kernel/drivers/sample/sample_core   sample_core sample_core_abi
kernel/drivers/sample/sample_big_align sample_big_align
kernel/fs/sample/sample_fs          sample_fs_super sample_fs_file
updates/sample_vendor               sample_vendor
'

# Module.symvers: every export with its checksum, owner, licence rule and namespace.
{
	grep -v '^#' src/kernel.txt | while read -r _ _ export name namespace; do
		case $export in
		yes) echo "$name vmlinux EXPORT_SYMBOL $namespace" ;;
		gpl) echo "$name vmlinux EXPORT_SYMBOL_GPL $namespace" ;;
		esac
	done
	echo "$modules" | while read -r path sources; do
		for source in $sources; do
			sed -n -e "s|^\(EXPORT_SYMBOL[_GPL]*\)(\([a-z0-9_]*\));|\2 $path \1|p" \
				-e "s|^EXPORT_SYMBOL_NS_GPL(\([a-z0-9_]*\), \([A-Z0-9_]*\));|\1 $path EXPORT_SYMBOL_GPL \2|p" \
				"src/$source.c"
		done
	done
} | while read -r name owner export namespace; do
	printf '%s\t%s\t%s\t%s\t%s\n' "$(checksum "$name")" "$name" "$owner" "$export" "$namespace"
done > "$lib/Module.symvers"
awk -F'\t' '{ print "#define CRC_" $2 " " $1 }' "$lib/Module.symvers" > "$work/checksums.h"

# System.map: the kernel's symbols, one after the other.
grep -v '^#' src/kernel.txt > "$work/kernel"
awk '
function hex(text,    value, i) {
	for (i = 3; i <= length(text); i++)
		value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
	return value
}
function put(kind, name) { printf "ffffffff%08x %s %s\n", at, kind, name }
function page(to) { at = int((at + to - 1) / to) * to }
function table(label, names, count,    i, j, swap) {
	for (i = 2; i <= count; i++)
		for (j = i; j > 1 && names[j] < names[j - 1]; j--) {
			swap = names[j]; names[j] = names[j - 1]; names[j - 1] = swap
		}
	put("R", "__start___ksymtab" label)
	for (i = 1; i <= count; i++) {
		put("r", "__ksymtab_" names[i])
		at += 12
	}
	put("R", "__stop___ksymtab" label)
}
BEGIN {
	print "0000000000000000 A fixed_percpu_data"
	print "0000000000000000 A __per_cpu_start"
	print "0000000000035000 A __per_cpu_end"
	at = hex("0x81000000")
	put("T", "_text"); put("T", "_stext")
	kind = "T"
}
NR == FNR {
	if ($3 == "yes") plain[++plains] = $4
	if ($3 == "gpl") gpl[++gpls] = $4
	next
}
{
	if ($1 != kind) {
		if (kind == "T") {
			put("T", "_etext"); page(4194304)
			put("R", "__start_rodata")
		} else if (kind == "R") {
			table("", plain, plains); table("_gpl", gpl, gpls)
			put("R", "__end_rodata"); page(2097152)
			put("D", "_sdata")
		} else {
			put("D", "_edata"); page(4096)
			put("B", "__bss_start")
		}
		kind = $1
	}
	put($1, $4)
	if ($4 == "jiffies")
		put("D", "jiffies_64")
	at += hex($2)
}
END { put("B", "__bss_stop"); page(4096); put("B", "_end") }
' "$work/kernel" "$work/kernel" > "$root/boot/System.map-$release"

flags="-std=gnu11 -Wall -Wextra -Werror -O2 -ffreestanding -fno-pic -fno-common
 -mcmodel=kernel -mno-red-zone -mno-sse -mno-mmx -mno-80387
 -mpreferred-stack-boundary=3 -fno-asynchronous-unwind-tables -fno-unwind-tables
 -fcf-protection=none -fno-stack-protector -fno-strict-aliasing
 -ffile-prefix-map=$src=. -ffile-prefix-map=$work=. -I$src -I$work"

compile() {
	# shellcheck disable=SC2086
	(cd "$work" && "${cross}gcc" $flags ${3-} -c -o "$1.o" "$2")
}

# What the last link step of a kernel build adds to each module.
describe() {
	name=$1 path=$2
	undefined=$("${cross}nm" -u "$work/$name.whole.o" | awk '$1 == "U" { print $2 }')
	defined=$("${cross}nm" --defined-only "$work/$name.whole.o" | awk '{ print $3 }')
	depends=
	echo '#include "module.h"'
	echo 'static const struct version versions[] KEEP IN_SECTION("__versions") __attribute__((aligned(32))) = {'
	for symbol in module_layout $undefined; do
		line=$(awk -F'\t' -v n="$symbol" '$2 == n { print $1, $3 }' "$lib/Module.symvers")
		case $symbol in __this_module) continue ;; esac
		if [ -z "$line" ]; then
			echo "$name: $symbol is exported by nobody" >&2
			exit 1
		fi
		echo "	{ ${line% *}, \"$symbol\" },"
		case $line in
		*vmlinux) ;;
		*) owner=${line##*/}
		   case ,$depends, in
		   *,"$owner",*) ;;
		   *) depends=$depends${depends:+,}$owner ;;
		   esac ;;
		esac
	done
	echo '};'
	echo "MODULE_INFO(depends, \"$depends\");"
	case $path in
	kernel/*) echo 'MODULE_INFO(intree, "Y");'
		  echo 'MODULE_INFO(retpoline, "Y");' ;;
	esac
	echo "MODULE_INFO(name, \"$name\");"
	echo 'MODULE_INFO(vermagic, VERMAGIC);'
	case $defined in *init_module*) echo 'extern int init_module(void);' ;; esac
	case $defined in *cleanup_module*) echo 'extern void cleanup_module(void);' ;; esac
	echo 'struct module __this_module IN_SECTION(".gnu.linkonce.this_module") = {'
	echo "	.name = \"$name\","
	case $defined in *init_module*) echo '	.init = init_module,' ;; esac
	case $defined in *cleanup_module*) echo '	.exit = cleanup_module,' ;; esac
	echo '};'
	cat <<-'END'
	asm(".pushsection .note.Linux,\"a\",@note\n"
	    "	.balign 4\n	.long 6, 4, 0x101\n	.asciz \"Linux\"\n	.balign 4\n	.long 0\n"
	    "	.long 6, 1f - 0f, 0x100\n	.asciz \"Linux\"\n	.balign 4\n"
	    "0:	.asciz \"" RELEASE "\"\n1:	.balign 4\n"
	    "	.popsection\n");
	END
}

echo "$modules" | while read -r path sources; do
	[ -n "$path" ] || continue
	name=${path##*/}
	# The traced ones call __fentry__ and return through the kernel's thunk.
	case $name in
	sample_core | sample_fs)
		extra='-pg -mfentry -mrecord-mcount -mfunction-return=thunk-extern' ;;
	sample_crypto) extra=-mfunction-return=thunk-extern ;;
	*) extra= ;;
	esac
	objects=
	for source in $sources; do
		compile "$source" "$src/$source.c" "$extra"
		objects="$objects $work/$source.o"
	done
	# shellcheck disable=SC2086
	"${cross}ld" -r -o "$work/$name.whole.o" $objects
	describe "$name" "$path" > "$work/$name.mod.c"
	compile "$name.mod" "$name.mod.c"
	mkdir -p "$(dirname "$lib/$path")"
	"${cross}ld" -r --build-id=sha1 -T "$src/module.lds" -o "$lib/$path.ko" \
		"$work/$name.whole.o" "$work/$name.mod.o"
	"${cross}strip" --strip-debug "$lib/$path.ko"
	if [ "$name" = sample_crypto ]; then
		compile signature "$src/signature.S"
		"${cross}objcopy" -O binary -j .text "$work/signature.o" "$work/signature"
		cat "$work/signature" >> "$lib/$path.ko"
	fi
	chmod 644 "$lib/$path.ko"
done

depmod -a -w -e -E "$lib/Module.symvers" -b "$root" "$release"
# Only the lists that a reader of this folder wants; the indexes are for modprobe.
rm -f "$lib"/modules.*.bin "$lib/modules.devname" "$lib/modules.symbols"

if [ "$root" != root ]; then
	diff -r root "$root" && echo "samples/root is what samples/src gives"
fi
