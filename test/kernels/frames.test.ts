// Call frame information of real kernels: every row as readelf interprets it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { FrameAccess, RegisterRule, UnwindRow } from '../../src/symbols/image.ts';
import { architectures, Kernel, linesOf, registerNumber, seeded } from './kernel.ts';

const descriptions = 2000;

/** readelf's notation of a rule (binutils/dwarf.c, frame_display_row). */
const notation = (rule: RegisterRule | undefined): string => {
  const signed = (value: bigint): string => `${value < 0n ? '' : '+'}${value}`;
  switch (rule?.kind) {
    case undefined:
    case 'undefined':
      return 'u';
    case 'same':
      return 's';
    case 'offset':
      return `c${signed(rule.offset)}`;
    case 'valOffset':
      return `v${signed(rule.offset)}`;
    case 'register':
      return `r${rule.register}`;
    case 'expression':
      return 'exp';
    case 'valExpression':
      return 'vexp';
  }
};

/** A frame whose registers and memory all have some value. */
const someFrame = (pc: bigint): FrameAccess => ({
  pc,
  bias: 0n,
  register: (number) => BigInt(number) << 12n,
  cfa: async () => undefined,
  read: async (_, length) => new Uint8Array(length).fill(1),
  caller: async () => undefined,
});

/** Frame description entries as readelf shows them, chosen from all with equal chance (reservoir sampling). */
async function someEntries(kernel: Kernel): Promise<string> {
  const random = seeded(7);
  const chosen: string[] = [];
  let seen = 0;
  let entry: string[] = [];
  const end = (): void => {
    if (/ FDE /.test(entry[0] ?? '')) {
      seen++;
      const place = chosen.length < descriptions ? chosen.length : random(seen);
      if (place < descriptions) chosen[place] = entry.join('\n');
    }
    entry = [];
  };
  for await (const line of linesOf('readelf', ['--debug-dump=frames-interp', kernel.vmlinux])) {
    if (line === '') end();
    else entry.push(line);
  }
  end();
  return chosen.join('\n\n');
}

describe('unwind rows, against readelf', () => {
  for (const architecture of architectures) {
    test(`${descriptions} functions of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const entries = (await kernel.answer(`readelf-frames-${descriptions}`, () => someEntries(kernel))).split('\n\n');
      assert.equal(entries.length, descriptions);
      const numberOf = (name: string): number => registerNumber(architecture, name);
      const cfaOf = ({ cfa }: UnwindRow): string => {
        if (cfa.kind === 'expression') return 'exp';
        return `${cfa.register}${cfa.offset < 0n ? '' : '+'}${cfa.offset}`;
      };
      const image = kernel.open();
      const rows = { compared: 0, expressions: 0 };
      try {
        for (const entry of entries) {
          const [title = '', columns = '', ...lines] = entry.split('\n');
          const [, end = ''] = /pc=[0-9a-f]+\.\.([0-9a-f]+)/.exec(title) ?? [];
          const names = columns.trim().split(/\s+/).slice(2);
          const wanted = lines.map((line) => line.trim().split(/\s+/));
          for (const [index, [location = '', cfa = '', ...rules]] of wanted.entries()) {
            const next = wanted[index + 1]?.[0] ?? end;
            // A row that the next one at the same address replaces holds nowhere.
            if (next === location) continue;
            const [, register, offset] = /^(.+?)([+-]\d+)$/.exec(cfa) ?? [];
            const row = image.unwindRow(BigInt(`0x${location}`));
            assert.ok(row !== undefined, location);
            assert.deepEqual(
              {
                end: row.end.toString(16),
                cfa: cfaOf(row),
                rules: names.map((name) =>
                  notation(row.registers.get(name === 'ra' ? row.returnAddress : numberOf(name))),
                ),
              },
              {
                end: BigInt(`0x${next}`).toString(16),
                cfa: register === undefined ? cfa : `${numberOf(register)}${offset}`,
                rules,
              },
              `${title}, row ${location}`,
            );
            rows.compared++;
            if (row.cfa.kind === 'expression') {
              const address = await image.frameRule(row.cfa.bytes, someFrame(row.start), []);
              assert.equal(typeof address, 'bigint', `the expression of ${location}`);
              rows.expressions++;
            }
          }
        }
      } finally {
        image.close();
      }
      assert.ok(rows.compared > 3 * descriptions, `${rows.compared} rows`);
      // Functions that align their stack (gcc's DRAP): only x86-64 kernels have them.
      assert.equal(rows.expressions > 0, architecture === 'amd64');
    });
  }
});
