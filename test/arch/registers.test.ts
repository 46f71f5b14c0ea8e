import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  activeStackPointer,
  coreRegisterIds,
  describeKvmRegister,
  floatRegisters,
  generalRegisters,
  registerBits,
  registerCatalogue,
  systemRegisterIds,
} from '../../src/arch/aarch64/registers.ts';
import {
  genericName,
  packEncoding,
  systemRegisterAt,
  systemRegisters,
  unpackEncoding,
} from '../../src/arch/aarch64/systemRegisters.ts';
import { mrsWords } from './mrsWords.ts';

// Computed by aarch64-linux-gnu-gcc from the macros of the kernel's own asm/kvm.h (linux-libc-dev 6.1).
const fromKernelHeaders: readonly (readonly [name: string, id: bigint])[] = [
  ['x0', 0x6030_0000_0010_0000n],
  ['x30', 0x6030_0000_0010_003cn],
  ['sp_el0', 0x6030_0000_0010_003en],
  ['pc', 0x6030_0000_0010_0040n],
  ['pstate', 0x6030_0000_0010_0042n],
  ['sp_el1', 0x6030_0000_0010_0044n],
  ['elr_el1', 0x6030_0000_0010_0046n],
  ['spsr_el1', 0x6030_0000_0010_0048n],
  ['spsr_fiq', 0x6030_0000_0010_0050n],
  ['v0', 0x6040_0000_0010_0054n],
  ['v31', 0x6040_0000_0010_00d0n],
  ['fpsr', 0x6020_0000_0010_00d4n],
  ['fpcr', 0x6020_0000_0010_00d5n],
  ['cntv_ctl_el0', 0x6030_0000_0013_df19n],
  ['cntv_cval_el0', 0x6030_0000_0013_df02n],
  ['cntvct_el0', 0x6030_0000_0013_df1an],
  ['cntp_cval_el0', 0x6030_0000_0013_df12n],
  ['tcr_el1', 0x6030_0000_0013_c102n],
  ['mdscr_el1', 0x6030_0000_0013_8012n],
  ['s3_0_c1_c0_4', 0x6030_0000_0013_c084n],
  ['dbgbcr15_el1', 0x6030_0000_0013_807dn],
  ['psci_version', 0x6030_0000_0014_0000n],
  ['smccc_arch_workaround_3', 0x6030_0000_0014_0003n],
  ['std_bmap', 0x6030_0000_0016_0000n],
  ['vendor_hyp_bmap', 0x6030_0000_0016_0002n],
  ['z0', 0x6080_0000_0015_0000n],
  ['z31', 0x6080_0000_0015_03e0n],
  ['p15', 0x6050_0000_0015_05e0n],
  ['ffr', 0x6050_0000_0015_0600n],
  ['sve_vls', 0x6060_0000_0015_ffffn],
  ['ccsidr_3', 0x6020_0000_0011_0003n],
];

test('ids are named as the macros of asm/kvm.h build them', () => {
  for (const [name, id] of fromKernelHeaders) assert.equal(describeKvmRegister(id).name, name);
});

test('core ids by name are those of asm/kvm.h', () => {
  const compared = fromKernelHeaders.filter(([name]) => coreRegisterIds.has(name));
  assert.equal(compared.length, 13);
  for (const [name, id] of compared) assert.equal(coreRegisterIds.get(name), id, name);
  assert.equal(coreRegisterIds.size, 31 + 6 + 4 + 32 + 2);
});

test('pstate is a 64-bit register', () => {
  const id = coreRegisterIds.get('pstate');
  assert.ok(id !== undefined);
  assert.equal(registerBits(id), 64);
  assert.equal(describeKvmRegister(id).bits, 64);
});

test('widths follow the size field of the id', () => {
  for (const [name, bits] of [
    ['x0', 64],
    ['v0', 128],
    ['fpsr', 32],
    ['fpcr', 32],
    ['z0', 2048],
    ['p15', 256],
    ['ccsidr_3', 32],
  ] as const) {
    const id = fromKernelHeaders.find(([known]) => known === name)?.[1] ?? 0n;
    assert.equal(describeKvmRegister(id).bits, bits, name);
  }
});

test("system register encodings are the assembler's", () => {
  assert.ok(mrsWords.length > 200);
  for (const [word, name] of mrsWords) {
    const packed = ((word >> 5) & 0x3fff) | ((2 + ((word >> 19) & 1)) << 14);
    assert.equal(systemRegisterAt(unpackEncoding(packed)).name, name);
    if (name === 'cntv_cval_el0' || name === 'cntvct_el0') continue; // KVM swaps their ids, see fromKernelHeaders
    assert.equal(systemRegisterIds.get(name), 0x6030_0000_0013_0000n | BigInt(packed), name);
  }
});

test('encodings and names are unique, and packing is reversible', () => {
  assert.equal(new Set(systemRegisters.map(({ name }) => name)).size, systemRegisters.length);
  assert.equal(new Set(systemRegisters.map(({ encoding }) => packEncoding(encoding))).size, systemRegisters.length);
  for (const { encoding } of systemRegisters) assert.deepEqual(unpackEncoding(packEncoding(encoding)), [...encoding]);
});

test('a register without a name here gets the generic one', () => {
  assert.equal(systemRegisterAt([3, 0, 1, 0, 4]).name, 's3_0_c1_c0_4');
  assert.equal(genericName([3, 3, 15, 2, 7]), 's3_3_c15_c2_7');
  assert.equal(systemRegisterAt([3, 0, 0, 7, 7]).topic, 'identification');
  assert.equal(systemRegisterAt([3, 0, 15, 7, 7]).topic, 'other');
});

test('topics', () => {
  const topicOf = (name: string) => describeKvmRegister(systemRegisterIds.get(name) ?? 0n).topic;
  assert.equal(topicOf('esr_el1'), 'exception');
  assert.equal(topicOf('ttbr1_el1'), 'translation');
  assert.equal(topicOf('cntv_ctl_el0'), 'timers');
  assert.equal(topicOf('dbgbcr3_el1'), 'debug');
  assert.equal(topicOf('midr_el1'), 'identification');
  assert.equal(topicOf('pmevcntr4_el0'), 'performance');
  assert.equal(topicOf('apiakeylo_el1'), 'pointer authentication');
  assert.equal(topicOf('tpidr_el1'), 'other');
});

test('what counts time or events is told from what is set', () => {
  const counting = [...systemRegisterIds]
    .filter(([, id]) => describeKvmRegister(id).counts === true)
    .map(([name]) => name);
  const events = Array.from({ length: 31 }, (_, n) => `pmevcntr${n}_el0`);
  assert.deepEqual(counting.sort(), ['cntpct_el0', 'cntvct_el0', 'pmccntr_el0', 'pmxevcntr_el0', ...events].sort());
});

// Arm ARM, C5.2 SPSel: at EL0 always SP_EL0; above, PSTATE.SP (bit 0) selects.
test('the stack pointer in use follows PSTATE.SP, not the Exception level alone', () => {
  for (const [pstate, expected] of [
    [0x0n, 'sp_el0'], // EL0t
    [0x4n, 'sp_el0'], // EL1t: EL alone would say sp_el1
    [0x5n, 'sp_el1'], // EL1h
    [0x8n, 'sp_el0'], // EL2t
    [0x9n, 'sp_el2'], // EL2h
    [0x10n, 'x13'], // AArch32 User
    [0xffff_ffff_6000_03c5n, 'sp_el1'],
    [0x6000_03c4n, 'sp_el0'],
  ] as const) {
    assert.equal(activeStackPointer(pstate), expected, pstate.toString(16));
  }
});

test('the general group is x0-x30, sp, pc, pstate, in this order', () => {
  const expected = [...Array.from({ length: 31 }, (_, n) => `x${n}`), 'sp', 'pc', 'pstate'];
  assert.deepEqual(
    generalRegisters.map(({ name }) => name),
    expected,
  );
  assert.ok(generalRegisters.every(({ bits }) => bits === 64));
  assert.deepEqual(
    floatRegisters.map(({ name }) => name),
    [...Array.from({ length: 32 }, (_, n) => `v${n}`), 'fpsr', 'fpcr'],
  );
});

const core = [...coreRegisterIds.values()];
const systemIds = (...names: string[]) => names.map((name) => systemRegisterIds.get(name) ?? 0n);

test('the catalogue has unique names, the general group first, and sp computed', () => {
  const ids = [...systemIds('tcr_el1', 'esr_el1', 'midr_el1', 'vbar_el1'), ...core.toReversed()];
  const catalogue = registerCatalogue(ids);
  assert.equal(catalogue.length, ids.length + 1);
  assert.equal(new Set(catalogue.map(({ name }) => name)).size, catalogue.length);
  assert.deepEqual(
    catalogue.slice(0, 34).map(({ name }) => name),
    generalRegisters.map(({ name }) => name),
  );
  assert.deepEqual(
    catalogue.slice(34, 34 + 34).map(({ name }) => name),
    floatRegisters.map(({ name }) => name),
  );
  const topics = catalogue.slice(68).map(({ topic }) => topic);
  assert.deepEqual([...new Set(topics)], ['exception', 'translation', 'identification']);
  assert.deepEqual(catalogue.find(({ name }) => name === 'sp')?.source, { kind: 'stackPointer' });
  for (const name of ['sp_el0', 'sp_el1', 'elr_el1', 'spsr_el1', 'spsr_fiq']) {
    const entry = catalogue.find((candidate) => candidate.name === name);
    assert.deepEqual([entry?.group, entry?.topic], ['system', 'exception'], name);
  }
});

test('with SVE the V registers, which KVM hides, are the low bits of the Z registers', () => {
  const z = fromKernelHeaders.find(([name]) => name === 'z31')?.[1] ?? 0n;
  const catalogue = registerCatalogue([...core.filter((id) => registerBits(id) !== 128), z]);
  const v31 = catalogue.find(({ name }) => name === 'v31');
  assert.deepEqual(v31?.source, { kind: 'lowBits', id: z });
  assert.equal(v31?.bits, 128);
  assert.equal(catalogue.filter(({ name }) => name === 'v0').length, 0);
});

test('two ids that would share a name are told apart; one id twice is one entry', () => {
  const spsr = 0x6030_0000_0013_0000n | BigInt(packEncoding([3, 4, 4, 0, 0]));
  const catalogue = registerCatalogue([spsr, spsr, 0x6030_0000_0099_0000n]);
  assert.deepEqual(catalogue.map(({ name }) => name).sort(), ['kvm_0x6030000000990000', 'sp', 'spsr_el2']);
  const twice = registerCatalogue([spsr, spsr & ~(1n << 52n)]);
  assert.deepEqual(twice.map(({ name }) => name).sort(), ['s3_4_c4_c0_0', 'sp', 'spsr_el2']);
});

const fieldValue = (name: string, value: bigint, field: string): bigint | undefined => {
  const described = [...generalRegisters, ...core.map(describeKvmRegister)].find((one) => one.name === name);
  const fields = (described ?? describeKvmRegister(systemRegisterIds.get(name) ?? 0n)).fields;
  const found = fields?.find((candidate) => candidate.name === field);
  return found && (value >> BigInt(found.low)) & ((1n << BigInt(found.high - found.low + 1)) - 1n);
};

// Values that Linux programs or that the kernel's headers define.
test('fields', () => {
  // asm/ptrace.h: PSR_*_BIT.
  const bits = { N: 31, Z: 30, C: 29, V: 28, TCO: 25, DIT: 24, UAO: 23, PAN: 22, SS: 21, IL: 20, SSBS: 12 } as const;
  for (const [field, bit] of Object.entries({ ...bits, D: 9, A: 8, I: 7, F: 6, nRW: 4 })) {
    assert.equal(fieldValue('pstate', 1n << BigInt(bit), field), 1n, field);
    assert.equal(fieldValue('spsr_el1', ~(1n << BigInt(bit)), field), 0n, field);
  }
  assert.equal(fieldValue('pstate', 0x6000_0c05n, 'M'), 5n);
  assert.equal(fieldValue('pstate', 0x6000_0c05n, 'BTYPE'), 3n);
  // TCR_EL1 of a 4 KiB, 48-bit Linux: T0SZ and T1SZ 16, TG1 4 KiB, IPS 44 bits, TBI0, AS.
  const tcr = 0x0000_00f4_f510_b510n;
  assert.equal(fieldValue('tcr_el1', tcr, 'T1SZ'), 16n);
  assert.equal(fieldValue('tcr_el1', tcr, 'TG1'), 3n);
  assert.equal(fieldValue('tcr_el1', tcr, 'IPS'), 4n);
  assert.equal(fieldValue('tcr_el1', tcr, 'TBI0'), 1n);
  assert.equal(fieldValue('esr_el1', 0xf200_0800n, 'EC'), 0x3cn);
  assert.equal(fieldValue('ttbr1_el1', 0x0012_0000_4123_4001n, 'ASID'), 0x12n);
  assert.equal(fieldValue('midr_el1', 0x410f_d034n, 'PartNum'), 0xd03n); // Cortex-A53
  assert.equal(fieldValue('mpidr_el1', 0x8000_0103n, 'Aff1'), 1n);
  assert.equal(fieldValue('dbgbcr0_el1', 0x1e7n, 'BAS'), 15n);
  assert.equal(fieldValue('dbgwcr0_el1', 0x1fffn, 'LSC'), 3n);
});

test('fields of one register do not overlap, but for nRW, which is also M[4]', () => {
  const described = [...generalRegisters, ...core.map(describeKvmRegister)];
  const system = [...systemRegisterIds.values()].map(describeKvmRegister);
  let seen = 0;
  for (const { name, fields, bits } of [...described, ...system]) {
    if (!fields) continue;
    seen++;
    let used = 0n;
    for (const field of fields) {
      if (field.name === 'nRW') continue;
      assert.ok(field.high >= field.low && field.high < bits, `${name}.${field.name}`);
      const mask = ((1n << BigInt(field.high - field.low + 1)) - 1n) << BigInt(field.low);
      assert.equal(used & mask, 0n, `${name}.${field.name}`);
      used |= mask;
    }
  }
  assert.ok(seen > 60);
});
