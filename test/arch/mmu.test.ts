import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type TranslationRegisters, translate, type WalkResult, walk } from '../../src/arch/aarch64/mmu.ts';
import { type Gpa, Gva, hex } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import { type Geometry, PageTables, ttbr } from './pageTables.ts';
import { randomSource } from './random.ts';

// TCR_EL1 fields (Arm ARM, D24.2): TG0 15:14, TG1 31:30 encode differently.
const TG0 = { '4K': 0n, '64K': 1n, '16K': 2n } as const;
const TG1 = { '16K': 1n, '4K': 2n, '64K': 3n } as const;
const IPS_48 = 5n << 32n;
const IPS_52 = 6n << 32n;
const DS = 1n << 59n;
const TBI0 = 1n << 37n;
const TBI1 = 1n << 38n;
const AF = 1n << 10n;

const tcrOf = ({ granule, vaBits, large }: Geometry): bigint => {
  const size = BigInt(64 - vaBits);
  const ds = large && granule !== '64K' ? DS : 0n;
  return size | (size << 16n) | (TG0[granule] << 14n) | (TG1[granule] << 30n) | ds | (large ? IPS_52 : IPS_48);
};

/** Registers with `tables` in the lower or the upper half, and no memory for the other half's. */
function registersOf(tables: PageTables, upper: boolean): TranslationRegisters {
  const root = ttbr(tables.root, tables.geometry.large);
  const nowhere = 0x7f_ffff_0000n;
  return {
    sctlr_el1: 1n,
    tcr_el1: tcrOf(tables.geometry),
    ttbr0_el1: upper ? nowhere : root,
    ttbr1_el1: upper ? root : nowhere,
  };
}

// What each geometry maps: the lookup levels of its first table and of the blocks it allows (Arm ARM, D8.2, D8.3).
const geometries: readonly (Geometry & { readonly first: number; readonly leaves: readonly number[] })[] = [
  { granule: '4K', vaBits: 30, large: false, first: 2, leaves: [2, 3] },
  { granule: '4K', vaBits: 36, large: false, first: 1, leaves: [1, 2, 3] },
  { granule: '4K', vaBits: 39, large: false, first: 1, leaves: [1, 2, 3] },
  { granule: '4K', vaBits: 42, large: false, first: 0, leaves: [1, 2, 3] },
  { granule: '4K', vaBits: 48, large: false, first: 0, leaves: [1, 2, 3] },
  { granule: '4K', vaBits: 48, large: true, first: 0, leaves: [0, 1, 2, 3] },
  { granule: '4K', vaBits: 52, large: true, first: -1, leaves: [0, 1, 2, 3] },
  { granule: '16K', vaBits: 36, large: false, first: 2, leaves: [2, 3] },
  { granule: '16K', vaBits: 47, large: false, first: 1, leaves: [2, 3] },
  { granule: '16K', vaBits: 48, large: false, first: 0, leaves: [2, 3] },
  { granule: '16K', vaBits: 48, large: true, first: 0, leaves: [1, 2, 3] },
  { granule: '16K', vaBits: 52, large: true, first: 0, leaves: [1, 2, 3] },
  { granule: '64K', vaBits: 42, large: false, first: 2, leaves: [2, 3] },
  { granule: '64K', vaBits: 47, large: false, first: 1, leaves: [2, 3] },
  { granule: '64K', vaBits: 48, large: false, first: 1, leaves: [2, 3] },
  { granule: '64K', vaBits: 48, large: true, first: 1, leaves: [1, 2, 3] },
  { granule: '64K', vaBits: 52, large: true, first: 1, leaves: [1, 2, 3] },
];
const nameOf = ({ granule, vaBits, large }: Geometry) => `${granule}, ${vaBits}-bit VA${large ? ', 52-bit PA' : ''}`;

const described = (result: WalkResult): string =>
  [result.kind === 'fault' ? result.message : hex(result.address), ...result.steps.map(({ level }) => level)].join(' ');

const halfBase = (upper: boolean, vaBits: number): bigint => (upper ? (1n << 64n) - (1n << BigInt(vaBits)) : 0n);

for (const geometry of geometries) {
  test(`random mappings come back: ${nameOf(geometry)}`, async () => {
    const random = randomSource(geometry.vaBits * 7 + geometry.granule.length);
    for (const upper of [false, true]) {
      const tables = new PageTables(geometry, geometry.large ? 0xa_0000_4000_0000n : 0x8_4000_0000n);
      assert.equal(tables.firstLevel, geometry.first);
      const regs = registersOf(tables, upper);
      const paBits = geometry.large ? 52 : 48;
      const mapped: { va: bigint; pa: bigint; level: number }[] = [];
      for (let count = 0; count < 60; count++) {
        const level = geometry.leaves[random.below(geometry.leaves.length)] ?? 3;
        const size = tables.size(level);
        const va = (random.bits(geometry.vaBits) & ~(size - 1n)) | halfBase(upper, geometry.vaBits);
        const pa = random.bits(paBits) & ~(size - 1n);
        const overlaps = mapped.some((one) => va < one.va + tables.size(one.level) && one.va < va + size);
        if (overlaps) continue;
        mapped.push({ va, pa, level });
        tables.map(va, pa, level);
      }
      assert.ok(mapped.length >= geometry.leaves.length);
      for (const { va, pa, level } of mapped) {
        const size = tables.size(level);
        for (const offset of [0n, size - 1n, random.bits(52) & (size - 1n)]) {
          const result = await walk(regs, tables.read, Gva(va + offset));
          assert.equal(result.kind, 'mapping', described(result));
          if (result.kind !== 'mapping') continue;
          assert.equal(result.address, pa + offset);
          assert.equal(result.level, level);
          assert.equal(result.pageSize, Number(size));
          assert.equal(result.remaining, Number(size - offset));
          const levels = result.steps.map((step) => step.level);
          assert.deepEqual(
            levels,
            Array.from({ length: level - geometry.first + 1 }, (_, n) => geometry.first + n),
          );
          assert.equal(result.steps.at(-1)?.kind, level === 3 ? 'page' : 'block');
          assert.equal(result.steps.at(-1)?.address, tables.slotOf(va, level));
          assert.equal(result.steps[0]?.table, tables.root);
          assert.equal(result.steps.at(-1)?.output, pa);
          for (const [n, { output }] of result.steps.slice(0, -1).entries()) {
            assert.equal(output, result.steps[n + 1]?.table);
          }
          assert.equal(result.steps.at(-1)?.descriptor, tables.memory.get(tables.slotOf(va, level)));
        }
      }
      // What is not mapped faults.
      for (let count = 0; count < 40; count++) {
        const va = random.bits(geometry.vaBits) | halfBase(upper, geometry.vaBits);
        if (mapped.some((one) => va >= one.va && va < one.va + tables.size(one.level))) continue;
        const result = await walk(regs, tables.read, Gva(va));
        assert.equal(result.kind === 'fault' && result.fault, 'translation');
      }
    }
  });

  test(`blocks above the allowed levels are faults: ${nameOf(geometry)}`, async () => {
    const reserved = [geometry.first, geometry.first + 1, 2].filter(
      (level) => level < 3 && level >= geometry.first && !geometry.leaves.includes(level),
    );
    for (const level of reserved) {
      const tables = new PageTables(geometry, 0x4000_0000n);
      tables.map(0n, 0n, level);
      const result = await walk(registersOf(tables, false), tables.read, Gva(0x123n));
      assert.deepEqual(
        [result.kind === 'fault' && result.fault, result.kind === 'fault' && result.level],
        ['translation', level],
      );
    }
  });
}

const usual: Geometry = { granule: '4K', vaBits: 48, large: false };
const VA = 0x0000_5678_9abc_d000n;
const PA = 0x1234_5000n;
const usualTables = (attributes = AF, table = 0n): PageTables => {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, PA, 3, attributes, table);
  return tables;
};
const faultOf = async (regs: TranslationRegisters, tables: PageTables, va: bigint) => {
  const result = await walk(regs, tables.read, Gva(va));
  return result.kind === 'fault' ? result.message : 'mapped';
};

// Words worked out by hand from the figures of D8.3: 4 KiB, 48 bits, four levels.
test('a walk by hand', async () => {
  const memory = new Map<bigint, bigint>([
    [0x4000_0ff8n, 0x0000_0000_4000_1003n], // L0[511]
    [0x4000_1ff0n, 0x0000_0000_4000_2003n], // L1[510]
    [0x4000_2000n, 0x0060_0000_8020_0709n | (1n << 10n)], // L2[0]: 2 MiB block at 0x80200000, PXN, UXN
  ]);
  const read = async (address: Gpa) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, memory.get(address) ?? 0n, true);
    return bytes;
  };
  const regs = { sctlr_el1: 1n, tcr_el1: 0x5_8010_0010n | IPS_48, ttbr0_el1: 0n, ttbr1_el1: 0x4000_0000n };
  const result = await walk(regs, read, Gva(0xffff_ffff_8001_2345n));
  assert.equal(result.kind, 'mapping');
  if (result.kind !== 'mapping') return;
  assert.equal(result.address, 0x8021_2345n);
  assert.equal(result.remaining, 0x20_0000 - 0x1_2345);
  assert.equal(result.executable, false);
});

test('a short first table is aligned to its own size, with 52-bit addresses to 64 bytes', async () => {
  for (const [geometry, base] of [
    [{ granule: '16K', vaBits: 48, large: false }, 0x4000_0010n], // 2 entries
    [{ granule: '4K', vaBits: 42, large: false }, 0x4000_0fc0n], // 8 entries
    [{ granule: '4K', vaBits: 52, large: true }, 0xf_0000_4000_0f80n], // 16 entries
    [{ granule: '16K', vaBits: 48, large: true }, 0xf_0000_4000_0040n], // 2 entries, 64-byte alignment
  ] as const) {
    const tables = new PageTables(geometry, base);
    const va = (1n << BigInt(geometry.vaBits)) - (1n << 20n);
    tables.map(va, 0x8_0000_0000n, 3);
    const result = await walk(registersOf(tables, false), tables.read, Gva(va + 9n));
    assert.equal(result.kind === 'mapping' && result.address, 0x8_0000_0009n, described(result));
  }
});

test('every level that is invalid is named', async () => {
  for (const level of [0, 1, 2, 3]) {
    for (const invalid of [0n, 2n, 0x4000_0002n]) {
      const tables = usualTables();
      tables.memory.set(tables.slotOf(VA, level), invalid);
      assert.equal(await faultOf(registersOf(tables, false), tables, VA), `translation fault, level ${level}`);
    }
  }
  const tables = usualTables();
  tables.memory.set(tables.slotOf(VA, 3), PA | AF | 1n); // a block at level 3 is reserved
  assert.equal(await faultOf(registersOf(tables, false), tables, VA), 'translation fault, level 3');
});

test('addresses outside both halves fault without a table read', async () => {
  const tables = usualTables();
  const regs = registersOf(tables, false);
  for (const va of [1n << 48n, 0x0080_0000_0000_0000n, 0xfffe_ffff_ffff_ffffn, VA | (0x12n << 56n)]) {
    assert.equal(await faultOf(regs, tables, va), 'translation fault, level 0', va.toString(16));
  }
  assert.deepEqual(tables.reads, []);
});

test('bit 55 selects the half, and the top byte is a tag only where TBI says so', async () => {
  for (const upper of [false, true]) {
    const tables = new PageTables(usual, 0x4000_0000n);
    const va = VA | halfBase(upper, 48);
    tables.map(va, PA, 3);
    const tagged = (va & ~(0xffn << 56n)) | (0x3cn << 56n);
    const regs = registersOf(tables, upper);
    const withTbi = (tbi: bigint) => ({ ...regs, tcr_el1: regs.tcr_el1 | tbi });
    assert.equal(await faultOf(withTbi(upper ? TBI1 : TBI0), tables, tagged), 'mapped');
    assert.equal(await faultOf(withTbi(upper ? TBI0 : TBI1), tables, tagged), 'translation fault, level 0');
    // MTX0 is bit 60 and MTX1 bit 61: bits 59:56 only.
    const memoryTag = upper ? va & ~(0xfn << 56n) : va | (0x7n << 56n);
    assert.equal(await faultOf(withTbi(1n << (upper ? 61n : 60n)), tables, memoryTag), 'mapped');
    assert.equal(await faultOf(withTbi(1n << (upper ? 61n : 60n)), tables, tagged), 'translation fault, level 0');
    assert.equal(await faultOf(regs, tables, memoryTag), 'translation fault, level 0');
  }
});

test('EPD0 and EPD1 disable the walk of their half only', async () => {
  for (const upper of [false, true]) {
    const tables = new PageTables(usual, 0x4000_0000n);
    const va = VA | halfBase(upper, 48);
    tables.map(va, PA, 3);
    const regs = registersOf(tables, upper);
    const epd = (position: bigint) => ({ ...regs, tcr_el1: regs.tcr_el1 | (1n << position) });
    assert.equal(await faultOf(epd(upper ? 23n : 7n), tables, va), 'translation fault, level 0');
    assert.equal(await faultOf(epd(upper ? 7n : 23n), tables, va), 'mapped');
  }
});

test('the halves may differ in size and granule', async () => {
  const lower = new PageTables({ granule: '64K', vaBits: 42, large: false }, 0x4000_0000n);
  const upper = new PageTables({ granule: '4K', vaBits: 39, large: false }, 0x5000_0000n);
  lower.map(0x123_4567_0000n, 0x9000_0000n, 3);
  upper.map(0xffff_ffc0_0020_1000n, 0xa000_1000n, 3);
  const regs = {
    sctlr_el1: 1n,
    tcr_el1: 22n | (1n << 14n) | (25n << 16n) | (2n << 30n) | IPS_48,
    ttbr0_el1: ttbr(lower.root, false),
    ttbr1_el1: ttbr(upper.root, false),
  };
  const read = (address: Gpa, length: number) => (address < 0x5000_0000n ? lower : upper).read(address, length);
  const low = await translate(regs, read, Gva(0x123_4567_89abn));
  const high = await translate(regs, read, Gva(0xffff_ffc0_0020_1abcn));
  assert.deepEqual([low.address, low.pageSize], [0x9000_89abn, 0x1_0000]);
  assert.deepEqual([high.address, high.pageSize], [0xa000_1abcn, 0x1000]);
});

test('MMU off: the identity, less a tag that TBI ignores', async () => {
  const tables = usualTables();
  const off = { ...registersOf(tables, false), sctlr_el1: 0n, id_aa64mmfr0_el1: 2n }; // PARange 40 bits
  const result = await walk(off, tables.read, Gva(0x8020_0010n));
  assert.equal(result.kind === 'mapping' && result.address, 0x8020_0010n);
  assert.equal(result.kind === 'mapping' && result.level, undefined);
  assert.deepEqual(tables.reads, []);
  assert.equal(await faultOf(off, tables, 1n << 40n), 'address size fault, level 0');
  assert.equal(await faultOf(off, tables, 0xffff_ffc0_0000_0000n), 'address size fault, level 0');
  const tagged = await walk({ ...off, tcr_el1: TBI0 }, tables.read, Gva(0x1200_0000_8020_0010n));
  assert.equal(tagged.kind === 'mapping' && tagged.address, 0x8020_0010n);
});

test('output addresses are bounded by IPS and by PARange', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA, 0x10_0000_0000n, 3); // 2^36
  const regs = registersOf(tables, false);
  const ips = (value: bigint) => ({ ...regs, tcr_el1: (regs.tcr_el1 & ~(7n << 32n)) | (value << 32n) });
  assert.equal(await faultOf(ips(1n), tables, VA), 'address size fault, level 3');
  assert.equal(await faultOf(ips(2n), tables, VA), 'mapped');
  assert.equal(await faultOf({ ...ips(5n), id_aa64mmfr0_el1: 1n }, tables, VA), 'address size fault, level 3');
  assert.equal(await faultOf({ ...ips(0n), ttbr0_el1: 1n << 33n }, tables, VA), 'address size fault, level 0');
  tables.memory.set(tables.slotOf(VA, 1), 0x20_0000_0000n | 3n);
  assert.equal(await faultOf(ips(1n), tables, VA), 'address size fault, level 1');
});

test('a clear access flag is a fault that still tells the page; a debugger takes it', async () => {
  const tables = usualTables(0n);
  const regs = registersOf(tables, false);
  const result = await walk(regs, tables.read, Gva(VA + 5n));
  assert.equal(result.kind === 'fault' && result.message, 'access flag fault, level 3');
  assert.equal(result.kind === 'fault' && result.mapping?.address, PA + 5n);
  assert.equal((await translate(regs, tables.read, Gva(VA + 5n))).address, PA + 5n);
  const managed = { ...regs, tcr_el1: regs.tcr_el1 | (1n << 39n) }; // HA
  assert.equal(await faultOf(managed, tables, VA), 'mapped');
});

test('tables where no memory is', async () => {
  const tables = usualTables();
  tables.memory.set(tables.slotOf(VA, 1), 0x7000_0003n);
  const regs = registersOf(tables, false);
  const result = await walk(regs, tables.read, Gva(VA));
  assert.equal(result.kind === 'fault' && result.fault, 'externalAbort');
  assert.equal(result.kind === 'fault' && result.level, 2);
  await assert.rejects(
    translate(regs, tables.read, Gva(VA)),
    (thrown) => thrown instanceof MemoryFault && thrown.space === 'virtual' && thrown.address === VA && !!thrown.cause,
  );
  // Any other error is the reader's own.
  const broken = async (): Promise<Uint8Array> => {
    throw new RangeError('a bug');
  };
  await assert.rejects(walk(regs, broken, Gva(VA)), RangeError);
});

test('translate throws a MemoryFault with the virtual address', async () => {
  const tables = usualTables();
  const unmapped = VA + 0x1008n;
  await assert.rejects(translate(registersOf(tables, false), tables.read, Gva(unmapped)), {
    name: 'MemoryFault',
    space: 'virtual',
    address: unmapped,
    message: `Cannot access virtual memory at 0x${unmapped.toString(16)}: translation fault, level 3`,
  });
});

test('reserved and unknown controls are told, not guessed', async () => {
  const tables = usualTables();
  const regs = registersOf(tables, false);
  const reserved = { ...regs, tcr_el1: regs.tcr_el1 | (3n << 14n) };
  assert.equal(await faultOf(reserved, tables, VA), 'TCR_EL1.TG0 is a reserved value');
  const d128 = { ...regs, tcr2_el1: 1n << 5n };
  assert.equal(await faultOf(d128, tables, VA), '128-bit descriptors (TCR2_EL1.D128)');
  const tooLarge = { ...regs, tcr_el1: (regs.tcr_el1 & ~0x3fn) | 12n }; // 52 bits without DS
  assert.equal(await faultOf(tooLarge, tables, VA), 'translation fault, level 0');
});

test('big-endian tables', async () => {
  const tables = usualTables();
  const read = async (address: Gpa, length: number) => (await tables.read(address, length)).slice().reverse();
  const regs = { ...registersOf(tables, false), sctlr_el1: 1n | (1n << 25n) };
  assert.equal((await translate(regs, read, Gva(VA))).address, PA);
});

test('the contiguous bit and software bits do not matter', async () => {
  const tables = usualTables(AF | (1n << 52n) | (0xfn << 55n) | (1n << 11n) | (0x7n << 2n));
  assert.equal((await translate(registersOf(tables, false), tables.read, Gva(VA))).address, PA);
});

test('bits of a block below its output address are not part of it', async () => {
  const tables = new PageTables(usual, 0x4000_0000n);
  tables.map(VA & ~0x1f_ffffn, 0x8020_0000n, 2, AF | (1n << 16n)); // nT (FEAT_BBM)
  assert.equal(
    (await translate(registersOf(tables, false), tables.read, Gva(VA))).address,
    0x8020_0000n | (VA & 0x1f_ffffn),
  );
});

// AP[1] 6, AP[2] 7, DBM 51, PXN 53, UXN 54; APTable 62:61, UXNTable 60, PXNTable 59 (D8.3, D8.4).
test('permissions', async () => {
  const USER = 1n << 6n;
  const RO = 1n << 7n;
  const DBM = 1n << 51n;
  const PXN = 1n << 53n;
  const UXN = 1n << 54n;
  const HD = 1n << 40n;
  const HPD0 = 1n << 41n;
  const WXN = 1n << 19n;
  for (const [text, page, table, tcr, sctlr, expected] of [
    ['kernel text', RO | UXN, 0n, 0n, 0n, 'r-x ---'],
    ['kernel data', PXN | UXN, 0n, 0n, 0n, 'rw- ---'],
    ['kernel rodata', RO | PXN | UXN, 0n, 0n, 0n, 'r-- ---'],
    ['user text', USER | RO | PXN, 0n, 0n, 0n, 'r-- u-x'],
    ['user data', USER | PXN | UXN, 0n, 0n, 0n, 'rw- u--'],
    ['EL1 does not execute what EL0 can write', USER | UXN, 0n, 0n, 0n, 'rw- u--'],
    ['writable-clean, hardware dirty state', RO | DBM | PXN | UXN, 0n, HD, 0n, 'rw- ---'],
    ['DBM is a software bit without HD', RO | DBM | PXN | UXN, 0n, 0n, 0n, 'r-- ---'],
    ['WXN', UXN, 0n, 0n, WXN, 'rw- ---'],
    ['WXN leaves read-only code', RO | UXN, 0n, 0n, WXN, 'r-x ---'],
    ['APTable[1]: read-only', PXN | UXN, 1n << 62n, 0n, 0n, 'r-- ---'],
    ['APTable[0]: no EL0', USER | PXN | UXN, 1n << 61n, 0n, 0n, 'rw- ---'],
    ['PXNTable', RO | UXN, 1n << 59n, 0n, 0n, 'r-- ---'],
    ['UXNTable', USER | RO | PXN, 1n << 60n, 0n, 0n, 'r-- u--'],
    ['HPD0 turns the tables off', USER | UXN | PXN, 3n << 61n, HPD0, 0n, 'rw- u--'],
  ] as const) {
    const tables = usualTables(AF | page, table);
    const regs = registersOf(tables, false);
    const mapping = await translate(
      { ...regs, tcr_el1: regs.tcr_el1 | tcr, sctlr_el1: regs.sctlr_el1 | sctlr },
      tables.read,
      Gva(VA),
    );
    const shown = `r${mapping.writable ? 'w' : '-'}${mapping.executable ? 'x' : '-'}`;
    const shownUser = `${mapping.user ? 'u' : '-'}-${mapping.userExecutable ? 'x' : '-'}`;
    assert.equal(`${shown} ${shownUser}`, expected, text);
  }
});

// Linux's PIR values (arch/arm64/include/asm/pgtable-prot.h): index 54:53:51:6, bit 7 is nDirty.
test('indirect permissions', async () => {
  const USER = 1n << 6n;
  const NDIRTY = 1n << 7n;
  const BIT51 = 1n << 51n;
  const PXN = 1n << 53n;
  const UXN = 1n << 54n;
  const place = (entries: Readonly<Record<number, bigint>>): bigint =>
    Object.entries(entries).reduce((register, [index, value]) => register | (value << BigInt(4 * Number(index))), 0n);
  // PAGE_KERNEL 0b1110 RW, PAGE_KERNEL_ROX 0b1000 RX, PAGE_SHARED 0b1111 RW at both, PAGE_EXECONLY 0b0100 X at EL0.
  const pir = { pir_el1: place({ 14: 12n, 8: 10n, 15: 12n }), pire0_el1: place({ 15: 5n, 4: 2n }) };
  for (const [text, page, tcr, expected] of [
    ['kernel data', UXN | PXN | BIT51, 0n, [true, false, false, false]],
    ['kernel text', UXN, 0n, [false, false, true, false]],
    ['user data', UXN | PXN | BIT51 | USER, 0n, [true, true, false, false]],
    ['user data, clean', UXN | PXN | BIT51 | USER | NDIRTY, 0n, [false, true, false, false]],
    [
      'user data, clean, hardware dirty state',
      UXN | PXN | BIT51 | USER | NDIRTY,
      1n << 40n,
      [true, true, false, false],
    ],
    ['execute-only', PXN, 0n, [false, false, false, true]],
  ] as const) {
    const tables = usualTables(AF | page, 3n << 61n); // table permissions do not count
    const regs = registersOf(tables, false);
    const control = { ...regs, ...pir, tcr2_el1: 2n, tcr_el1: regs.tcr_el1 | tcr };
    const { writable, user, executable, userExecutable } = await translate(control, tables.read, Gva(VA));
    assert.deepEqual([writable, user, executable, userExecutable], expected, text);
  }
});
