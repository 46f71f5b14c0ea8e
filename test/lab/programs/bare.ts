/** A guest without an operating system under the target: what the debugger shows is what the guest put there, and the
 *  guest cannot tell that it is debugged. */
import assert from 'node:assert/strict';
import { type Gpa, Gva } from '../../../src/base/address.ts';
import { MemoryFault, TargetError } from '../../../src/base/errors.ts';
import { Batch } from '../../../src/target/kvm/batch.ts';
import type { StopEvent } from '../../../src/target/target.ts';
import { PageTables } from '../../arch/pageTables.ts';
import { type ContractGuest, contract } from '../../target/contract.ts';
import { image, place } from './bareGuest.ts';
import { Bare, EL1H, gic } from './bareVm.ts';
import { check } from './report.ts';
import { missing, type Vmm, vmms } from './vms.ts';

const pattern = (index: number): bigint => BigInt.asUintN(64, 0x9e37_79b9_7f4a_7c15n * BigInt(index + 1));
const general = Array.from({ length: 31 }, (_, n) => `x${n}`);
const vectorNames = Array.from({ length: 32 }, (_, n) => `v${n}`);

async function registersAreTheGuests(bare: Bare): Promise<void> {
  const { target } = bare;
  const at = bare.at(place.data);
  const stacks = { sp_el1: bare.base + 0x8000n, sp_el0: bare.base + 0x9000n };
  const words = Array.from({ length: 96 }, (_, index) => pattern(index));
  const NZCV = 0xa000_0000n;
  await bare.store(at, ...words, 0x0800_009fn, 0x0140_0000n, stacks.sp_el1, stacks.sp_el0, NZCV);
  await bare.go(place.registers, { x30: at });
  await bare.until(0xf01);
  const values = await target.readRegisters(0, [...general, ...vectorNames, 'fpsr', 'fpcr', 'sp', 'pstate', 'sp_el0']);
  for (const [index, name] of general.entries()) assert.equal(values.get(name), words[index], name);
  for (const [index, name] of vectorNames.entries()) {
    const expected = ((words[33 + 2 * index] ?? 0n) << 64n) | (words[32 + 2 * index] ?? 0n);
    assert.equal(values.get(name), expected, name);
  }
  assert.equal(values.get('fpsr'), 0x0800_009fn);
  assert.equal(values.get('fpcr'), 0x0140_0000n);
  // Bits 63:32 of PSTATE are zero: a register read with half its width leaves garbage there.
  assert.equal((values.get('pstate') ?? -1n) & 0xffff_ffff_f000_03cfn, NZCV | EL1H);
  assert.equal(values.get('sp'), stacks.sp_el1, 'EL1h');
  assert.equal(values.get('sp_el0'), stacks.sp_el0);
  await bare.set({ pc: (await bare.get('pc')) + 4n });
  await bare.until(0xf02);
  assert.equal(await bare.get('sp'), stacks.sp_el0, 'EL1t');
  assert.equal((await bare.get('pstate')) & 0xfn, 4n);
  await bare.set({ pc: (await bare.get('pc')) + 4n });
  await bare.until(0xf03);
  assert.equal(await bare.get('sp'), stacks.sp_el0, 'EL0');
  assert.equal((await bare.get('pstate')) & 0xfn, 0n);
}

async function guestSeesWrittenRegisters(bare: Bare): Promise<void> {
  const { target } = bare;
  const at = bare.at(place.data);
  await bare.go(place.dump);
  const written = general.slice(0, 30).map((_, index) => pattern(100 + index));
  for (const [index, name] of general.slice(0, 30).entries()) await target.writeRegister(0, name, written[index] ?? 0n);
  const vector = (pattern(1) << 64n) | pattern(2);
  await bare.set({ x30: at, v0: vector, v31: vector ^ 0xffn, cpacr_el1: 0x30_0000n, sp: bare.base + 0xa000n });
  await bare.set({ sp_el0: bare.base + 0xb000n, pstate: EL1H | 0x5000_0000n });
  await bare.until(0xf04);
  for (const [index, value] of written.entries()) {
    assert.equal(await bare.word(at + 8n * BigInt(index)), value, `x${index}`);
  }
  assert.equal(await bare.word(at + 256n), pattern(2));
  assert.equal(await bare.word(at + 264n), pattern(1));
  assert.equal(await bare.word(at + 752n), pattern(2) ^ 0xffn);
  assert.equal(await bare.word(at + 784n), bare.base + 0xa000n, 'sp at EL1h');
  assert.equal(await bare.word(at + 792n), bare.base + 0xb000n, 'SP_EL0');
  assert.equal(await bare.word(at + 800n), 0x5000_0000n, 'NZCV');
  // An indirect branch was taken; where the user goes instead is no branch target (PSTATE.BTYPE, 11:10).
  await bare.set({ pstate: EL1H | 0x400n });
  assert.equal(await bare.get('pstate'), EL1H | 0x400n);
  await bare.set({ pc: bare.at(place.data) });
  assert.equal(await bare.get('pstate'), EL1H, 'BTYPE after a write to the pc');
  await assert.rejects(target.writeRegister(0, 'x0', 1n << 64n), TargetError);
  await assert.rejects(target.writeRegister(0, 'x31', 1n), /x31/);
  await assert.rejects(target.readRegisters(0, ['nothing']), /nothing/);
}

interface TrapState {
  readonly spsr: bigint;
  readonly set: bigint;
  readonly clear: bigint;
  readonly code: bigint;
}

const SPAN = 1n << 23n;
const DSSBS = 1n << 44n;

/** States to execute a breakpoint instruction in, as far as the CPU has them. */
async function trapStates(bare: Bare): Promise<{ states: readonly TrapState[]; features: bigint }> {
  const field = (value: bigint, low: bigint): bigint => (value >> low) & 0xfn;
  const pfr0 = await bare.get('id_aa64pfr0_el1');
  const pan = field(await bare.get('id_aa64mmfr1_el1'), 20n) > 0n;
  const ssbs = field(await bare.get('id_aa64pfr1_el1'), 4n) > 0n;
  const dit = field(pfr0, 48n) > 0n;
  const aarch32 = field(pfr0, 0n) === 2n;
  const conditions = [0n, 0x9000_0000n, 0x6000_0000n];
  const extras = [0n, ...(pan ? [1n << 22n] : []), ...(ssbs ? [1n << 12n] : []), ...(dit ? [1n << 24n] : [])];
  const controls = [
    { set: SPAN, clear: DSSBS },
    { set: ssbs ? DSSBS : 0n, clear: pan ? SPAN : 0n },
  ];
  const sources = [
    { mode: 0x3c4n, code: place.brk64 },
    { mode: 0x0c5n, code: place.brk64 },
    { mode: 0x000n, code: place.brk64 },
    ...(aarch32
      ? [
          { mode: 0x1d0n, code: place.bkptA32 },
          { mode: 0x1f0n, code: place.bkptT32 },
        ]
      : []),
  ];
  const states = sources.flatMap(({ mode, code }) =>
    conditions.flatMap((condition) =>
      extras.flatMap((extra) => controls.map((control) => ({ spsr: mode | condition | extra, ...control, code }))),
    ),
  );
  return { states, features: (pan ? 1n : 0n) | (ssbs ? 2n : 0n) | (dit ? 4n : 0n) };
}

const recordWords = 12;

/** What the guest's handler saw for each state: { vector, ESR, ELR, SPSR, NZCV, DAIF, SPSel, CurrentEL, PAN, SSBS, DIT }. */
async function trapRecords(vmm: Vmm, debugged: boolean): Promise<readonly (readonly bigint[])[]> {
  const bare = await Bare.launch(vmm, image(), { traps: false });
  const { states, features } = await trapStates(bare);
  const table = bare.at(place.data);
  const records = table + 0x4000n;
  await bare.store(table, ...states.flatMap(({ spsr, set, clear, code }) => [spsr, set, clear, code]));
  await bare.go(place.traps, { x20: table, x21: records, x22: BigInt(states.length), x24: features });
  let exits = 0;
  if (debugged) {
    bare.target.setTrapFilter(() => {
      exits++;
      return false;
    });
  }
  await bare.idles(place.idle);
  assert.equal(exits, debugged ? states.length : 0);
  const result: bigint[][] = [];
  for (let index = 0; index < states.length; index++) {
    const bytes = await bare.target.physicalMemory.read(
      (records + BigInt(index * recordWords * 8)) as Gpa,
      recordWords * 8,
    );
    result.push([...new BigUint64Array(bytes.slice().buffer)]);
  }
  await bare.target.kill();
  return result;
}

/** What QEMU's emulation (7.2) gets wrong set right: it clears NZCV on exception entry, which the Arm ARM leaves unchanged
 *  (pseudocode AArch64.TakeException), and sets ESR.IL for T32 BKPT, where 0 says that the instruction has 16 bits. */
function architectural(record: readonly bigint[]): readonly bigint[] {
  const [vector = 0n, esr = 0n, elr = 0n, spsr = 0n, , ...rest] = record;
  const IL = 1n << 25n;
  const isT32 = (spsr & 0x30n) === 0x30n;
  return [vector, isT32 ? esr & ~IL : esr, elr, spsr, spsr & 0xf000_0000n, ...rest];
}

async function trapsLookTheSame(vmm: Vmm): Promise<void> {
  const undebugged = (await trapRecords(vmm, false)).map(architectural);
  const debugged = await trapRecords(vmm, true);
  for (const [, , , spsr = 0n, nzcv] of debugged) assert.equal(nzcv, spsr & 0xf000_0000n, 'NZCV is kept');
  const show = (record: readonly bigint[]): string => record.map((word) => word.toString(16)).join(' ');
  assert.deepEqual(debugged.map(show), undebugged.map(show));
  const seen = new Set(undebugged.map(([vector]) => vector));
  assert.ok(
    [0n, 0x200n, 0x400n].every((vector) => seen.has(vector)),
    `vectors ${[...seen]}`,
  );
}

async function hotCode(bare: Bare): Promise<void> {
  const { target } = bare;
  // The synchronisation of the instruction cache cannot be seen under emulation, so that it is asked for is counted.
  let synced = 0;
  const original = Batch.prototype.syncInstructions;
  Batch.prototype.syncInstructions = function (start, length) {
    synced++;
    return original.call(this, start, length);
  };
  try {
    await bare.go(place.hot, { x19: 0n, x20: 0n });
    /** Runs until the loop was gone through a thousand times more; nothing but the interrupt ends a run. */
    const spin = async (): Promise<void> => {
      const end = (await bare.get('x20')) + 1000n;
      for (let round = 0; (await bare.get('x20')) < end; round++) {
        assert.ok(round < 100, 'the guest does not run');
        setTimeout(() => target.interrupt(), 20);
        assert.deepEqual(
          (await target.resume()).map(({ kind }) => kind),
          ['interrupted'],
        );
      }
    };
    await spin();
    const address = bare.at(place.hotPlace);
    const before = await target.memory(0).read(address, 4);
    const id = await target.insert({ kind: 'software', address }, 0);
    synced = 0;
    let last: bigint | undefined;
    for (let round = 0; round < 5; round++) {
      const [event, ...more] = await target.resume();
      assert.deepEqual([event, more], [{ kind: 'breakpoint', vcpu: 0, pc: address, ids: [id] }, []]);
      assert.deepEqual(await target.memory(0).read(address, 4), before, 'a stopped guest shows no BRK');
      const count = await bare.get('x20');
      if (last !== undefined) assert.equal(count, last + 1n, 'one round of the loop for each hit');
      last = count;
    }
    const counted = last ?? 0n;
    target.interrupt();
    await target.step(0);
    const executed = (await bare.get('pc')) === address ? 0n : 1n;
    assert.equal(await bare.get('x20'), counted + executed);
    assert.equal((await target.resume())[0]?.kind, 'breakpoint');
    assert.equal(await bare.get('x20'), counted + 1n, 'a hit is told once, also when the step from it was interrupted');
    assert.ok(synced >= 10, `the instruction cache was synchronised ${synced} times for 5 insertions and removals`);
    await target.remove(id);
    await spin();
  } finally {
    Batch.prototype.syncInstructions = original;
  }
}

async function hardwareBreakpoints(bare: Bare): Promise<void> {
  const { target } = bare;
  const count = target.capabilities.hardwareBreakpoints;
  assert.ok(count > 4, `KVM offers ${count}`);
  const addresses = Array.from({ length: count }, (_, index) => bare.at(place.line + 4n + 8n * BigInt(index)));
  const ids = [];
  for (const address of addresses) ids.push(await target.insert({ kind: 'hardware', address }, 0));
  await assert.rejects(
    target.insert({ kind: 'hardware', address: bare.at(place.line) }, 0),
    (thrown: unknown) => thrown instanceof TargetError && thrown.message.includes(`${count}`),
  );
  await bare.go(place.line);
  for (const [index, address] of addresses.entries()) {
    assert.deepEqual(await target.resume(), [{ kind: 'breakpoint', vcpu: 0, pc: address, ids: [ids[index]] }]);
  }
  await bare.until(0xf06);
  for (const id of ids) await target.remove(id);
  await assert.rejects(target.remove(ids[0] as (typeof ids)[0]), TargetError);
}

async function watchpoints(bare: Bare): Promise<void> {
  const { target } = bare;
  const room = bare.at(place.data + 0x1000n);
  /** Whether the access of `size` bytes at `offset` is reported, with nothing else. */
  const reported = async (offset: bigint, size: number, write: boolean): Promise<boolean> => {
    await bare.go(place.access, { x0: room + offset, x1: BigInt(Math.log2(size) + (write ? 0 : 4)) });
    const [event] = await target.resume();
    if (event?.kind !== 'watchpoint') {
      assert.equal(event?.kind === 'guestTrap' && event.immediate, 0xf05);
      return false;
    }
    await bare.until(0xf05);
    return true;
  };
  const ranges = [
    { start: 0n, length: 8 },
    { start: 3n, length: 1 },
    { start: 5n, length: 2 },
    { start: 6n, length: 5 }, // over a doubleword
    { start: 64n, length: 64 }, // MASK
    { start: 8n, length: 24 }, // 8 and 16
  ];
  for (const { start, length } of ranges) {
    for (const access of ['write', 'read', 'readWrite'] as const) {
      const id = await target.insert({ kind: 'watch', address: Gva(room + start), length, access }, 0);
      const end = start + BigInt(length);
      const tries: readonly (readonly [bigint, number, boolean])[] = [
        [start, 1, true],
        [end - 1n, 1, true],
        [start - 1n, 1, true],
        [end, 1, true],
        [end - 1n, 1, false],
      ];
      for (const [offset, size, write] of tries) {
        const inside = offset < end && offset + BigInt(size) > start;
        const expected = inside && (access === 'readWrite' || (access === 'write') === write);
        const what = `${write ? 'store' : 'load'} of ${size} at ${offset}, ${access} of ${length} at ${start} watched`;
        assert.equal(await reported(offset, size, write), expected, what);
      }
      await target.remove(id);
    }
  }
  const count = target.capabilities.hardwareWatchpoints;
  const ids = [];
  for (let index = 0; index < count; index++) {
    ids.push(
      await target.insert({ kind: 'watch', address: Gva(room + 16n * BigInt(index)), length: 8, access: 'write' }, 0),
    );
  }
  const point = { kind: 'watch', address: Gva(room + 0x100n), length: 1, access: 'write' } as const;
  await assert.rejects(target.insert(point, 0), new RegExp(`${count}`));
  for (const id of ids) await target.remove(id);
}

const granules = [
  { name: '4K', tg0: 0n, tg1: 2n, field: 28n, unsupported: 0xfn, page: 3 },
  { name: '16K', tg0: 2n, tg1: 1n, field: 20n, unsupported: 0n, page: 3 },
  { name: '64K', tg0: 1n, tg1: 3n, field: 24n, unsupported: 0xfn, page: 3 },
] as const;

async function pageWalk(bare: Bare): Promise<void> {
  const { target } = bare;
  const features = await bare.get('id_aa64mmfr0_el1');
  let walked = 0;
  for (const { name, tg0, tg1, field, unsupported } of granules) {
    if (((features >> field) & 0xfn) === unsupported) continue;
    for (const vaBits of [39, 42, 48]) {
      const geometry = { granule: name, vaBits, large: false } as const;
      const code = new PageTables(geometry, bare.base + 0x10_0000n);
      const upper = new PageTables(geometry, bare.base + 0x18_0000n);
      const accessFlag = 1n << 10n;
      const data = bare.base + 0x8_0000n;
      // The code where it is, in a page; data where no linear map would have it.
      const pages = code.size(3);
      code.map(bare.base, bare.base, 3, accessFlag);
      const va0 = (1n << BigInt(vaBits - 1)) + 5n * pages;
      code.map(va0, data, 3, accessFlag);
      const top = -1n << BigInt(vaBits);
      const va1 = BigInt.asUintN(64, top + 7n * pages);
      upper.map(va1, data + pages, 3, accessFlag);
      await bare.store(data + 8n, pattern(7));
      await bare.store(data + pages + 8n, pattern(8));
      for (const tables of [code, upper]) {
        await bare.target.physicalMemory.write(tables.root as Gpa, new Uint8Array(Number(tables.end - tables.root)));
        for (const [address, descriptor] of tables.memory) await bare.store(address, descriptor);
      }
      const size = BigInt(64 - vaBits);
      const ips = 1n; // 36 bits
      const tcr = size | (tg0 << 14n) | (size << 16n) | (tg1 << 30n) | (ips << 32n);
      for (const [va, expected] of [
        [va0 + 8n, pattern(7)],
        [va1 + 8n, pattern(8)],
      ] as const) {
        const what = `${name}, ${vaBits} bits, 0x${va.toString(16)}`;
        await bare.go(place.mmu, {
          x0: tcr,
          x1: code.root,
          x2: upper.root,
          x3: va,
          x4: 0xffn,
          vbar_el1: bare.at(place.vectors),
        });
        await bare.until(0xf07);
        assert.equal(await bare.get('x6'), expected, `${what}: what the CPU reads`);
        const memory = target.memory(0);
        const read = await memory.read(Gva(va), 8);
        assert.equal(new DataView(read.buffer, read.byteOffset).getBigUint64(0, true), expected, what);
        const before = await target.physicalMemory.read(bare.base as Gpa, 0x20_0000);
        for (const unmapped of [va - 8n - 2n * pages, va + 2n * pages, bare.base + 0x400_0000n]) {
          const fault = (thrown: unknown): boolean =>
            thrown instanceof MemoryFault &&
            thrown.space === 'virtual' &&
            thrown.address === BigInt.asUintN(64, unmapped);
          await assert.rejects(memory.read(Gva(unmapped), 8), fault, `${what}: read`);
          await assert.rejects(memory.write(Gva(unmapped), new Uint8Array(8).fill(0x5a)), fault, `${what}: write`);
        }
        const after = await target.physicalMemory.read(bare.base as Gpa, 0x20_0000);
        assert.ok(Buffer.from(before).equals(after), `${what}: a refused write lands nowhere`);
        await memory.write(Gva(va + 16n), new Uint8Array(8).fill(0x77));
        assert.equal(await bare.word((va < 1n << 63n ? data : data + pages) + 24n), 0x7777_7777_7777_7777n);
        await bare.set({ pc: (await bare.get('pc')) + 4n });
        await bare.until(0xf08);
        walked++;
      }
    }
  }
  assert.ok(walked >= 6);
}

async function interruptsDuringSteps(
  bare: Bare,
  [distributor, redistributor]: readonly [bigint, bigint],
): Promise<void> {
  const { target } = bare;
  await bare.go(place.timer, { x0: distributor, x1: redistributor, x19: 0n, x20: 0n });
  for (let round = 0; (await bare.get('x19')) < 3n || (await bare.get('x20')) === 0n; round++) {
    assert.ok(round < 50, `the guest takes no interrupts; pc ${(await bare.get('pc')).toString(16)}`);
    setTimeout(() => target.interrupt(), 30);
    await target.resume();
  }
  // Out of the handler, if it is there.
  for (let step = 0; (await bare.get('pc')) >= bare.at(place.interrupt) && step < 20; step++) await target.step(0);
  for (let step = 0; step < 300; step++) {
    const pc = await bare.get('pc');
    const expected = pc === bare.at(place.ticking + 12n) ? bare.at(place.ticking) : pc + 4n;
    // Pending, whatever the time a step takes.
    await target.writeRegister(0, 'cntv_cval_el0', 0n);
    const [event] = await target.step(0);
    assert.deepEqual(event, { kind: 'step', vcpu: 0, pc: expected }, `step ${step}`);
    assert.equal((await bare.get('pstate')) & 0x80n, 0n, 'PSTATE.I is the guest’s own');
  }
  const taken = await bare.get('x19');
  for (let round = 0; (await bare.get('x19')) === taken; round++) {
    assert.ok(round < 50, 'the interrupts do not come after the steps');
    setTimeout(() => target.interrupt(), 50);
    await target.resume();
  }
}

/** While the guest is held its counter stands, between steps and between runs; and it goes on from where a user puts it. */
async function clockStands(bare: Bare): Promise<void> {
  const { target } = bare;
  const code = [
    0xd53be040, // mrs x0, cntvct_el0
    0xd53be001, // mrs x1, cntfrq_el0
    0xd421e0a0, // brk #0xf05
  ];
  await target.memory(0).write(bare.at(place.data), new Uint8Array(Uint32Array.from(code).buffer));
  const read = async (how: 'step' | 'resume'): Promise<bigint> => {
    await bare.go(place.data);
    if (how === 'step') await target.step(0);
    else await bare.until(0xf05);
    return bare.get('x0');
  };
  let before = await read('resume');
  const second = await bare.get('x1');
  for (const how of ['step', 'resume', 'step', 'step', 'resume', 'resume'] as const) {
    const shown = await bare.get('cntvct_el0');
    // What the guest must not see is that time passes: nothing else would do.
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const now = await read(how);
    assert.ok(now >= shown && shown >= before, `${how}: ${before}, ${shown}, ${now}`);
    assert.ok(now - before < second, `${how}: the guest's time went on by ${(1000n * (now - before)) / second} ms`);
    before = now;
  }
  await bare.set({ cntvct_el0: before + 3600n * second });
  const later = await read('resume');
  assert.equal((later - before) / second, 3600n);
}

async function twoVcpus(vmm: Vmm): Promise<void> {
  const bare = await Bare.launch(vmm, image(), { cpus: 2 });
  const { target } = bare;
  await bare.go(place.both);
  const hardware = await target.insert({ kind: 'hardware', address: bare.at(place.place) }, 0);
  const hits = [0n, 0n];
  const round = async (): Promise<void> => {
    const events: readonly StopEvent[] = await target.resume();
    const at = new Set<number>();
    for (const event of events) {
      assert.equal(event.kind, 'breakpoint');
      if (event.kind !== 'breakpoint') continue;
      assert.equal(event.pc, bare.at(place.place));
      at.add(event.vcpu);
      hits[event.vcpu] = (hits[event.vcpu] ?? 0n) + 1n;
    }
    for (const vcpu of [0, 1]) {
      const expected = (hits[vcpu] ?? 0n) - (at.has(vcpu) ? 1n : 0n);
      if ((hits[vcpu] ?? 0n) === 0n) continue;
      // Each hit is one execution, and there was none without: nobody slips through while another is stepped over.
      assert.equal(await bare.get('x19', vcpu), expected, `vCPU ${vcpu} after ${hits} hits`);
      assert.equal(await bare.get('x28', vcpu), vcpu === 0 ? 0x2222n : 0x1111n, 'the other vCPU can be looked at');
      const pc = await bare.get('pc', vcpu);
      assert.ok(pc >= bare.at(place.together) && pc < bare.at(place.mmu), `vCPU ${vcpu} is in its loop`);
    }
  };
  for (let count = 0; count < 20 || hits.includes(0n); count++) {
    assert.ok(count < 200, `hits ${hits}`);
    await round();
  }
  await target.remove(hardware);
  await target.insert({ kind: 'software', address: bare.at(place.place) }, 0);
  for (let count = 0; count < 60; count++) await round();
  assert.ok(
    hits.every((count) => count > 10n),
    `both take part: ${hits}`,
  );
  // One directly behind the other: both are hit in turn, whatever the other vCPU stops at in between.
  const behind = bare.at(place.place + 4n);
  await target.insert({ kind: 'software', address: behind }, 0);
  const next = new Map<number, Gva>();
  for (let count = 0; count < 80; count++) {
    for (const event of await target.resume()) {
      assert.ok(event.kind === 'breakpoint', event.kind);
      assert.equal(event.pc, next.get(event.vcpu) ?? event.pc, `vCPU ${event.vcpu} after ${count} stops`);
      next.set(event.vcpu, event.pc === behind ? bare.at(place.place) : behind);
    }
  }
  assert.equal(next.size, 2);
}

async function trapsOfTheGuest(bare: Bare): Promise<void> {
  const { target } = bare;
  const reach = async (): Promise<void> => {
    await bare.go(place.dump + 0x5cn, { vbar_el1: bare.at(place.vectors), x22: 0n, x24: 0n, x21: bare.at(place.data) });
    await bare.until(0xf04);
  };
  await reach();
  const stopped = await bare.get('pc');
  assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: bare.at(place.vectors + 0x200n) }]);
  assert.equal(await bare.get('elr_el1'), stopped);
  assert.equal(await bare.get('esr_el1'), 0xf200_0f04n);
  await reach();
  await bare.idles(place.idle);
  assert.equal(await bare.get('elr_el1'), stopped, 'resume gives the trap to the guest');
}

const contractGuest = ({ target, base }: Bare): ContractGuest => ({
  target,
  code: Gva(base + 0x10_0000n),
  data: Gva(base + 0x10_1000n),
  unmapped: Gva(1n << 33n),
});

for (const vmm of vmms) {
  const skip = missing(vmm);
  let bare: Bare | undefined;
  const scenes: readonly (readonly [string, (bare: Bare) => Promise<void>])[] = [
    ['registers are what the guest put there', registersAreTheGuests],
    ['the guest finds the registers that were written', guestSeesWrittenRegisters],
    ['a trap of the guest is reported, then given back by step and resume', trapsOfTheGuest],
    ['a breakpoint in hot code is hit, and is gone when removed', hotCode],
    ['all hardware breakpoints work, and one more is refused', hardwareBreakpoints],
    ['watchpoints report exactly their bytes', watchpoints],
    ['virtual memory with every granule, and refused where nothing is mapped', pageWalk],
    ["the guest's clock stands while it is held", clockStands],
    ['steps with a timer interrupt pending', (guest) => interruptsDuringSteps(guest, gic[vmm](1))],
    ...contract.map(({ name, run }) => [`contract: ${name}`, (guest: Bare) => run(contractGuest(guest))] as const),
  ];
  await check(
    `${vmm}: a bare guest is launched`,
    async () => {
      bare = await Bare.launch(vmm, image());
    },
    { skip, keep: true },
  );
  for (const [index, [name, scene]] of scenes.entries()) {
    const run = async (): Promise<void> => {
      assert.ok(bare, 'there is no guest');
      await scene(bare);
    };
    await check(`${vmm}: ${name}`, run, { skip, keep: index < scenes.length - 1 });
  }
  await check(
    `${vmm}: breakpoint instructions of the guest look the same debugged and not`,
    () => trapsLookTheSame(vmm),
    {
      skip,
    },
  );
  await check(`${vmm}: two vCPUs at one breakpoint`, () => twoVcpus(vmm), { skip });
}
process.exit(0);
