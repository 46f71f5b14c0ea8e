// The walk as views show it. That it is the right one is for mmu.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageWalk, walkRegisters } from '../../src/arch/aarch64/walkView.ts';
import type { WalkLevel } from '../../src/arch/pageWalk.ts';
import { Gva } from '../../src/base/address.ts';
import { TargetError } from '../../src/base/errors.ts';
import { type Geometry, PageTables, ttbr } from './pageTables.ts';

const AF = 1n << 10n;
const TG0 = { '4K': 0n, '64K': 1n, '16K': 2n } as const;
const TG1 = { '16K': 1n, '4K': 2n, '64K': 3n } as const;
/** As Linux has it: 0 Normal, 1 tagged, 2 non-cacheable, 3 nGnRnE, 4 nGnRE. */
const MAIR = 0x0000_0004_0044_f0ffn;

/** Registers with `tables` in both halves. */
function registersOf(tables: PageTables, changes: Readonly<Record<string, bigint>> = {}): Map<string, bigint> {
  const { granule, vaBits, large } = tables.geometry;
  const size = BigInt(64 - vaBits);
  const ds = large && granule !== '64K' ? 1n << 59n : 0n;
  const tcr = size | (size << 16n) | (TG0[granule] << 14n) | (TG1[granule] << 30n) | ((large ? 6n : 5n) << 32n) | ds;
  const root = ttbr(tables.root, large);
  return new Map(
    Object.entries({ sctlr_el1: 1n, tcr_el1: tcr, ttbr0_el1: root, ttbr1_el1: root, mair_el1: MAIR, ...changes }),
  );
}
const usual: Geometry = { granule: '4K', vaBits: 48, large: false };
const VA = 0x0000_5678_9abc_d000n;

const attributes = ({ attributes: list }: WalkLevel): Readonly<Record<string, string>> =>
  Object.fromEntries(list.map(({ name, value, meaning = '' }) => [name, `${value} ${meaning}`.trim()]));
/** The attributes of the page at VA, and those of the tables in front of it. */
async function shown(page: bigint, table = 0n, changes: Readonly<Record<string, bigint>> = {}) {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, 0x1234_5000n, 3, page, table);
  const registers = registersOf(tables);
  for (const [name, bits] of Object.entries(changes)) registers.set(name, (registers.get(name) ?? 0n) | bits);
  const walk = await pageWalk(registers, tables.read, Gva(VA));
  const [first, , , last] = walk.levels;
  assert.ok(first && last);
  return { walk, page: attributes(last), table: attributes(first), line: walk.lines.at(-2) ?? '' };
}

test('level by level, in every granule', async () => {
  for (const [geometry, root, levels, granule] of [
    [usual, 0x4000_0000n, [0, 1, 2, 3], 4096],
    [{ granule: '4K', vaBits: 52, large: true }, 0xa_0000_4000_0000n, [-1, 0, 1, 2, 3], 4096],
    [{ granule: '16K', vaBits: 47, large: false }, 0x4000_0000n, [1, 2, 3], 16384],
    [{ granule: '64K', vaBits: 52, large: true }, 0xa_0000_4000_0000n, [1, 2, 3], 65536],
  ] as const) {
    const tables = new PageTables(geometry, root);
    const va = BigInt.asUintN(geometry.vaBits, 0xf_5678_9abc_0000n);
    const pa = geometry.large ? 0xb_1234_0000_0000n : 0xb234_0000_0000n;
    tables.map(va, pa, 3);
    const walk = await pageWalk(registersOf(tables), tables.read, Gva(va + 0x123n));
    assert.deepEqual(walk.regime, {
      register: 'ttbr0_el1',
      value: ttbr(root, geometry.large),
      granule,
      addressBits: geometry.vaBits,
      outputBits: geometry.large ? 52 : 48,
    });
    assert.deepEqual(
      walk.levels.map(({ level }) => level),
      levels,
    );
    let table: bigint | undefined = root;
    for (const step of walk.levels) {
      assert.equal(step.table, table);
      assert.equal(step.address, step.table + 8n * BigInt(step.index));
      assert.equal(step.address, tables.slotOf(va, step.level));
      assert.equal(step.descriptor, tables.memory.get(step.address));
      table = step.output;
    }
    assert.equal(table, pa);
    assert.equal(walk.fault, undefined);
    assert.deepEqual([walk.target?.address, walk.target?.pageSize], [pa + 0x123n, granule]);
    assert.equal(walk.target?.remaining, granule - 0x123);
  }
});

test('in lines', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  const va = 0xffff_8000_0801_0123n;
  tables.map(0xffff_8000_0800_0000n, 0x8020_0000n, 2, AF | (3n << 8n) | (1n << 7n) | (1n << 54n), 1n << 60n);
  const { lines } = await pageWalk(registersOf(tables), tables.read, Gva(va));
  assert.deepEqual(lines, [
    '0xffff800008010123',
    'TTBR1_EL1 0x1234000040000001: pages of 4 KiB, 48-bit virtual and 48-bit physical addresses',
    'L0 0x40000000[256] at 0x40000800: 0x1000000040001003 table -> 0x40001000, UXNTable',
    'L1 0x40001000[0] at 0x40001000: 0x1000000040002003 table -> 0x40002000, UXNTable',
    'L2 0x40002000[64] at 0x40002200: 0x40000080200781 block -> 0x80200000, Normal write-back, inner shareable, EL1 read-only, EL0 none, UXN, AF',
    'Physical address 0x80210123, 2031325 of 2097152 bytes before the end; EL1 may read, execute; EL0 may nothing',
  ]);
});

test('fields of pages', async () => {
  const plain = await shown(AF);
  assert.deepEqual(plain.page, {
    AttrIndx: '0 Normal write-back',
    SH: '0 non-shareable',
    AP: '0 EL1 read/write, EL0 none',
    UXN: '0 executable at EL0',
    PXN: '0 executable at EL1',
    DBM: '0 no',
    AF: '1 accessed',
    nG: '0 global',
    Contiguous: '0 by itself',
    GP: '0 not guarded',
    software: '0',
  });
  for (const [bits, name, expected, short] of [
    [4n << 2n, 'AttrIndx', '4 Device-nGnRE', 'Device-nGnRE'],
    [1n << 2n, 'AttrIndx', '1 Normal write-back, tagged', 'Normal write-back, tagged'],
    [2n << 8n, 'SH', '2 outer shareable', 'outer shareable'],
    [1n << 6n, 'AP', '1 EL1 and EL0 read/write', 'EL1 and EL0 read/write'],
    [3n << 6n, 'AP', '3 EL1 and EL0 read-only', 'EL1 and EL0 read-only'],
    [1n << 54n, 'UXN', '1 not executable at EL0', 'UXN'],
    [1n << 53n, 'PXN', '1 not executable at EL1', 'PXN'],
    [1n << 51n, 'DBM', '1 for software', 'DBM'],
    [1n << 11n, 'nG', '1 of one ASID', 'nG'],
    [1n << 52n, 'Contiguous', '1 its neighbours lead on from it', 'contiguous'],
    [1n << 50n, 'GP', '1 branch targets are guarded', 'GP'],
    [5n << 55n, 'software', '5', 'software 0x5'],
  ] as const) {
    const { page, line } = await shown(AF | bits);
    assert.deepEqual(page, { ...plain.page, [name]: expected }, name);
    assert.ok(line.split(', ').join('|').includes(short.split(', ').join('|')), `${short} in ${line}`);
    if (plain.line.includes(short)) assert.fail(`${short} is told without the bit as well`);
  }
  const managed = await shown(1n << 51n, 0n, { tcr_el1: (1n << 39n) | (1n << 40n) });
  assert.equal(managed.page.DBM, '1 becomes writable on a write');
  assert.equal(managed.page.AF, '0 the CPU sets it on an access');
});

test('an access flag that is clear: the fault, and the page', async () => {
  const { walk, page, line } = await shown(0n);
  assert.deepEqual(walk.fault, { kind: 'accessFlag', level: 3, message: 'access flag fault, level 3' });
  assert.equal(walk.target?.address, 0x1234_5000n);
  assert.equal(page.AF, '0 an access faults');
  assert.equal(line, 'access flag fault, level 3');
});

test('restrictions in tables, in effect or not', async () => {
  const restricted = await shown(AF | (1n << 6n), (3n << 61n) | (1n << 59n));
  assert.deepEqual(restricted.table, {
    APTable: '3 no EL0 access and read-only below',
    UXNTable: '0 no restriction',
    PXNTable: '1 not executable at EL1 below',
  });
  assert.deepEqual(restricted.walk.target?.permissions, {
    writable: false,
    user: false,
    executable: false,
    userExecutable: true,
  });
  assert.match(restricted.walk.lines[2] ?? '', /, APTable 3, PXNTable$/);
  const without = await shown(AF, 1n << 62n, { tcr_el1: 1n << 41n });
  assert.equal(without.table.APTable, '2 read-only below (not in effect)');
  assert.equal(without.walk.target?.permissions.writable, true);
});

test('indirect permissions', async () => {
  const changes = { tcr2_el1: 2n, pir_el1: 12n << 56n, pire0_el1: 3n << 56n };
  const { page } = await shown(AF | (7n << 52n) | (1n << 51n), 0n, changes);
  assert.deepEqual([page.PIIndex, page.nDirty], ['14 EL1 RW, EL0 RX', '0 dirty']);
  assert.equal(page.AP, undefined);
});

test('with 52-bit addresses TCR_EL1 says how pages are shared', async () => {
  const tables = new PageTables({ granule: '4K', vaBits: 48, large: true }, 0x4000_0000n);
  tables.map(VA, 0xc_0000_1234_5000n, 3, AF); // address bits 51:50 are where SH would be
  const registers = registersOf(tables);
  registers.set('tcr_el1', (registers.get('tcr_el1') ?? 0n) | (2n << 12n) | (3n << 28n));
  const { levels } = await pageWalk(registers, tables.read, Gva(VA));
  const page = levels.at(-1);
  assert.ok(page);
  assert.deepEqual([attributes(page)['TCR_EL1.SH0'], attributes(page).SH], ['2 outer shareable', undefined]);
});

test('memory types of MAIR2_EL1, and none without MAIR_EL1', async () => {
  const index = (1n << 59n) | (1n << 2n);
  const extended = await shown(AF | index, 0n, { tcr2_el1: 1n << 4n, mair2_el1: 0x4400n });
  assert.equal(extended.page.AttrIndx, '9 Normal non-cacheable');
  assert.equal((await shown(AF | index)).page.AttrIndx, '1 Normal write-back, tagged', 'bit 59 is not AttrIndx[3]');
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, 0x1234_5000n, 3);
  const registers = registersOf(tables);
  registers.delete('mair_el1');
  const page = (await pageWalk(registers, tables.read, Gva(VA))).levels.at(-1);
  assert.ok(page && attributes(page).AttrIndx === '0 memory type unknown');
});

test('why there is no physical address', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, 0x1234_5000n, 3);
  const fault = async (va: bigint, changes: Readonly<Record<string, bigint>> = {}) => {
    const { fault, levels, target, lines } = await pageWalk(registersOf(tables, changes), tables.read, Gva(va));
    assert.equal(target, undefined);
    assert.deepEqual(lines.slice(-2), [fault?.message, 'No physical address']);
    return `${levels.length} levels: ${fault?.message}`;
  };
  const tcr = registersOf(tables).get('tcr_el1') ?? 0n;
  assert.equal(await fault(VA + 0x1000n), '4 levels: translation fault, level 3: bit 0 of the descriptor is 0');
  assert.equal(await fault(1n << 47n), '1 levels: translation fault, level 0: bit 0 of the descriptor is 0');
  assert.equal(
    await fault(1n << 48n),
    '0 levels: translation fault, level 0: the bits from 48 up are not all as bit 55',
  );
  assert.equal(
    await fault(VA, { tcr_el1: tcr | (1n << 7n) }),
    '0 levels: translation fault, level 0: TCR_EL1.EPD0 disables walks through TTBR0_EL1',
  );
  assert.equal(
    await fault(-1n, { tcr_el1: tcr & ~(0x3fn << 16n) }),
    '0 levels: translation fault, level 0: TCR_EL1.T1SZ is 0, not from 16 to 48',
  );
  assert.equal(await fault(VA, { tcr_el1: tcr | (3n << 14n) }), '0 levels: TCR_EL1.TG0 is a reserved value');
  assert.equal(
    await fault(VA, { ttbr0_el1: 1n << 33n, id_aa64mmfr0_el1: 0n }),
    '0 levels: address size fault, level 0: the first table is beyond 32 bits',
  );
  tables.memory.set(tables.slotOf(VA, 3), 0x1234_5001n);
  assert.equal(await fault(VA), '4 levels: translation fault, level 3: there are no blocks at level 3');
  tables.memory.set(tables.slotOf(VA, 1), 0x7000_0003n);
  assert.match(await fault(VA), /^2 levels: external abort on the walk, level 2: /);
});

test('the MMU is off', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  const registers = registersOf(tables, { sctlr_el1: 0n, id_aa64mmfr0_el1: 2n });
  const walk = await pageWalk(registers, tables.read, Gva(0x8020_0000n));
  assert.deepEqual([walk.isMmuOn, walk.regime, walk.levels, walk.fault], [false, undefined, [], undefined]);
  assert.equal(walk.target?.address, 0x8020_0000n);
  assert.deepEqual(walk.lines, ['0x80200000: the MMU is off (SCTLR_EL1.M is 0)', 'Physical address 0x80200000']);
  const beyond = await pageWalk(registers, tables.read, Gva(1n << 40n));
  assert.match(beyond.fault?.message ?? '', /the MMU is off and physical addresses have 40 bits/);
});

test('registers that it cannot do without', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  for (const name of ['sctlr_el1', 'tcr_el1', 'ttbr0_el1', 'ttbr1_el1']) {
    assert.ok(walkRegisters.includes(name as never));
    const registers = registersOf(tables);
    registers.delete(name);
    await assert.rejects(
      pageWalk(registers, tables.read, Gva(0n)),
      (thrown) => thrown instanceof TargetError && thrown.message.includes(name),
    );
  }
});

test("a host kernel at EL2 has tables of its own, and EL1's are not taken for them", async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, 0x1234_5000n, 3);
  const own = [...registersOf(tables)].map(([name, value]) => [name.replace('_el1', '_el2'), value] as const);
  const [EL2h, E2H] = [9n, 1n << 34n];
  const values = new Map([...own, ['pstate', EL2h], ['hcr_el2', E2H], ['sctlr_el1', 0n], ['ttbr0_el1', 0n]] as const);
  const walk = await pageWalk(values, tables.read, Gva(VA + 8n));
  assert.equal(walk.target?.address, 0x1234_5008n);
  assert.equal(walk.regime?.register, 'ttbr0_el2');
  assert.match(walk.lines.at(-1) ?? '', /; EL2 may read/);
  values.set('hcr_el2', 0n);
  await assert.rejects(pageWalk(values, tables.read, Gva(VA)), /tables of EL2 cannot be walked/);
});
