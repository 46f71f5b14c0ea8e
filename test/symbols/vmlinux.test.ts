// A real kernel against binutils. Give its path in KVM_DEBUG_TEST_VMLINUX, best an arm64 vmlinux with DWARF.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { type RegisterRule, SymbolFile } from '../../src/symbols/image.ts';

const path = process.env.KVM_DEBUG_TEST_VMLINUX;
const output = (command: string, args: readonly string[], input?: string): string | undefined => {
  try {
    return execFileSync(command, args, {
      input,
      encoding: 'utf8',
      maxBuffer: 1 << 30,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
  } catch {
    return undefined;
  }
};
/** binutils built for the machine of the kernel, else those of this one: readelf and nm read any ELF. */
const tool = (name: string): string | undefined =>
  [`aarch64-linux-gnu-${name}`, name].find((command) => output(command, ['--version']) !== undefined);

const readelf = path === undefined ? undefined : tool('readelf');
const skip =
  path === undefined
    ? 'KVM_DEBUG_TEST_VMLINUX names no kernel'
    : readelf === undefined
      ? 'no readelf (binutils) on this machine'
      : false;

interface Function {
  readonly address: bigint;
  readonly size: number;
  readonly name: string;
}

/** Some hundred functions, spread evenly. */
const functionsOf = (count: number): Function[] => {
  const all = (output(tool('nm') ?? 'nm', ['-S', '--defined-only', path ?? '']) ?? '').split('\n').flatMap((line) => {
    const match = /^([0-9a-f]{16}) ([0-9a-f]{16}) [tT] (\S+)$/.exec(line);
    if (match === null) return [];
    const [, address, size, name = ''] = match;
    return [{ address: BigInt(`0x${address}`), size: Number(`0x${size}`), name }];
  });
  const step = Math.max(1, Math.floor(all.length / count));
  return all.filter(({ size }, index) => index % step === 0 && size > 0);
};

test('symbols and lines of a real kernel agree with nm and addr2line', { skip }, () => {
  const file = SymbolFile.open(path ?? '');
  const functions = functionsOf(1000);
  for (const { name, address, size } of functions) {
    assert.ok(
      file.symbolsNamed(name).some((symbol) => symbol.address === address && symbol.size === BigInt(size)),
      name,
    );
    const found = file.symbolAt(address + BigInt(size - 1));
    assert.ok(found !== undefined && found.symbol.address >= address, name);
  }
  const addresses = functions.map(({ address, size }) => address + BigInt((size >> 3) << 2));
  const lines = output(
    tool('addr2line') ?? 'addr2line',
    ['-e', path ?? ''],
    addresses.map((a) => a.toString(16)).join('\n'),
  );
  const agreeing = (lines ?? '')
    .trim()
    .split('\n')
    .filter((text, index) => {
      const row = file.lineAt(addresses[index] ?? 0n);
      const number = Number(/:(\d+)/.exec(text)?.[1] ?? 0);
      return number === (row?.line ?? 0) && (row === undefined || number === 0 || text.includes(row.file));
    });
  // addr2line takes the last row of an address; gdb, and this reader, the last one that begins a statement.
  assert.ok(agreeing.length > addresses.length * 0.85, `${agreeing.length} of ${addresses.length}`);
  file.close();
});

/** readelf's notation of a rule in --debug-dump=frames-interp. */
const notation = (rule: RegisterRule | undefined): string => {
  switch (rule?.kind) {
    case undefined:
      return 'u';
    case 'offset':
      return `c${rule.offset < 0n ? '' : '+'}${rule.offset}`;
    case 'same':
      return 's';
    default:
      return rule?.kind ?? '';
  }
};

test('unwind rows of a real kernel agree with readelf', { skip }, () => {
  const file = SymbolFile.open(path ?? '');
  const dump = output(readelf ?? '', ['--debug-dump=frames-interp', path ?? '']) ?? '';
  const entries = dump.split(/\n\n/).filter((entry) => entry.includes(' FDE '));
  const step = Math.max(1, Math.floor(entries.length / 2000));
  let rows = 0;
  for (let index = 0; index < entries.length; index += step) {
    const [, columns = '', ...lines] = (entries[index] ?? '').trim().split('\n');
    const names = columns.trim().split(/\s+/).slice(2);
    for (const line of lines) {
      const [location = '', cfa, ...rules] = line.trim().split(/\s+/);
      const row = file.unwindRow(BigInt(`0x${location}`));
      assert.ok(row !== undefined, location);
      // A row that the next one at the same address replaces does not hold anywhere.
      if (lines.filter((other) => other.startsWith(location)).length > 1) continue;
      if (row.cfa.kind === 'register' && /^(sp|x\d+)\+\d+$/.test(cfa ?? '')) {
        assert.equal(cfa, `${row.cfa.register === 31 ? 'sp' : `x${row.cfa.register}`}+${row.cfa.offset}`, location);
      }
      names.forEach((name, column) => {
        const register = name === 'ra' ? row.returnAddress : /^x\d+$/.test(name) ? Number(name.slice(1)) : undefined;
        if (register === undefined) return; // ra_state, and the names of other machines
        assert.equal(notation(row.registers.get(register)), rules[column], `${location} ${name}`);
      });
      rows++;
    }
  }
  assert.ok(rows > 0);
  file.close();
});
