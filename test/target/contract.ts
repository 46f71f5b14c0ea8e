/** What every Target must do, whatever guest is behind it. The guest is a loop of four instructions that the suite writes
 *  itself, so that it runs over anything that executes arm64 code. */
import assert from 'node:assert/strict';
import { Gva } from '../../src/base/address.ts';
import { MemoryFault, TargetError } from '../../src/base/errors.ts';
import type { ExitStatus, StopEvent, StopPointId, Target } from '../../src/target/target.ts';

/** A stopped guest, EL1 with the MMU off or mapped one to one. */
export interface ContractGuest {
  readonly target: Target;
  /** Free memory: a page for the loop and one for its data. */
  readonly code: Gva;
  readonly data: Gva;
  /** Where no memory is. */
  readonly unmapped: Gva;
  /** What the target says of a VM that it has killed; death by SIGKILL unless told. */
  readonly killed?: ExitStatus;
}

export interface ContractCase {
  readonly name: string;
  /** What a simulation may leave out. */
  readonly needs?: 'widths' | 'exit';
  readonly run: (guest: ContractGuest) => Promise<void>;
}

const loop = [
  0x91000673, // 0 add x19, x19, #1
  0x91000694, // 4 add x20, x20, #1
  0xf90002b4, // 8 str x20, [x21]
  0x17fffffd, // c b 0
];
const EL1H = 0x3c5n; // interrupts masked

async function prepare({ target, code, data }: ContractGuest): Promise<void> {
  await target.memory(0).write(code, new Uint8Array(new Uint32Array(loop).buffer));
  await target.memory(0).write(data, new Uint8Array(16));
  for (const [name, value] of Object.entries({ x19: 0n, x20: 0n, x21: data, pstate: EL1H, pc: code })) {
    await target.writeRegister(0, name, value);
  }
}

async function get(target: Target, name: string): Promise<bigint> {
  return (await target.readRegisters(0, [name])).get(name) ?? -1n;
}

async function word(target: Target, address: Gva): Promise<bigint> {
  const bytes = await target.memory(0).read(address, 8);
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** The one event a run or step ended with. */
async function one(run: Promise<readonly StopEvent[]>): Promise<StopEvent> {
  const events = await run;
  assert.equal(events.length, 1, `${events.map(({ kind }) => kind)}`);
  return events[0] as StopEvent;
}

const isTargetError = (pattern: RegExp) => (thrown: unknown) =>
  thrown instanceof TargetError && pattern.test(thrown.message);

/** Runs until the loop went on by some rounds; nothing but the interrupt ends a run. */
async function runOn(target: Target): Promise<void> {
  const before = await get(target, 'x20');
  for (let round = 0; (await get(target, 'x20')) <= before + 1n; round++) {
    assert.ok(round < 100, 'the guest does not run');
    const run = target.resume();
    // What it takes to let the guest run is part of the time.
    setTimeout(() => target.interrupt(), 20 * (round + 1));
    assert.equal((await one(run)).kind, 'interrupted');
  }
}

function breakpoints(kind: 'software' | 'hardware'): ContractCase {
  return {
    name: `a ${kind} breakpoint is hit before its instruction, once each time, until it is removed`,
    run: async (guest) => {
      await prepare(guest);
      const { target, code } = guest;
      const pc = Gva(code + 4n);
      const before = await target.memory(0).read(code, 16);
      const id = await target.insert({ kind, address: pc }, 0);
      for (let hits = 1n; hits <= 5n; hits++) {
        assert.deepEqual(await one(target.resume()), { kind: 'breakpoint', vcpu: 0, pc, ids: [id] });
        assert.equal(await get(target, 'x19'), hits);
        assert.equal(await get(target, 'x20'), hits - 1n);
        assert.deepEqual(await target.memory(0).read(code, 16), before, 'a stopped guest is an unpatched guest');
      }
      // Standing at it, a step executes the instruction itself.
      assert.deepEqual(await one(target.step(0)), { kind: 'step', vcpu: 0, pc: code + 8n });
      assert.equal(await get(target, 'x20'), 5n);
      await target.remove(id);
      await runOn(target);
      await assert.rejects(target.remove(id), TargetError);
    },
  };
}

export const contract: readonly ContractCase[] = [
  {
    name: 'registers are written and read back, PSTATE with all 64 bits',
    run: async (guest) => {
      await prepare(guest);
      const { target } = guest;
      const general = await target.readRegisters(0);
      const names = [...Array.from({ length: 31 }, (_, n) => `x${n}`), 'sp', 'pc', 'pstate'];
      for (const name of names) assert.ok(general.has(name), name);
      for (const name of ['x0', 'x7', 'x30', 'sp']) {
        await target.writeRegister(0, name, 0xfedc_ba98_7654_3210n);
        assert.equal(await get(target, name), 0xfedc_ba98_7654_3210n, name);
      }
      for (const flags of [0xf000_0000n, 0x8000_0000n, 0n]) {
        await target.writeRegister(0, 'pstate', flags | EL1H);
        assert.equal(await get(target, 'pstate'), flags | EL1H);
      }
      await assert.rejects(target.readRegisters(0, ['x0', 'nonsense']), isTargetError(/nonsense/));
      await assert.rejects(target.writeRegister(0, 'x31', 0n), isTargetError(/x31/));
      assert.equal(await get(target, 'pc'), guest.code);
    },
  },
  {
    name: 'a value that does not fit its register is refused',
    needs: 'widths',
    run: async ({ target }) => {
      const widths = new Map(target.registers.map(({ name, bits }) => [name, bits]));
      for (const [name, bits] of [
        ['x0', 64],
        // A stub may give no more than its fields.
        ['pstate', widths.get('pstate') === 32 ? 32 : 64],
        ['fpcr', 32],
        ['v0', 128],
      ] as const) {
        const before = await get(target, name);
        await assert.rejects(target.writeRegister(0, name, 1n << BigInt(bits)), isTargetError(new RegExp(`${bits}`)));
        assert.equal(await get(target, name), before);
      }
    },
  },
  {
    name: 'memory is the same by both kinds of address; a fault names the address',
    run: async (guest) => {
      await prepare(guest);
      const { target, data, unmapped } = guest;
      const bytes = Uint8Array.from({ length: 41 }, (_, n) => 7 * n);
      await target.memory(0).write(Gva(data + 3n), bytes);
      const { address } = await target.translate(0, Gva(data + 3n));
      assert.deepEqual(await target.physicalMemory.read(address, bytes.length), bytes);
      await target.physicalMemory.write(address, bytes.toReversed());
      assert.deepEqual(await target.memory(0).read(Gva(data + 3n), bytes.length), bytes.toReversed());
      const isFault = (thrown: unknown): boolean => thrown instanceof MemoryFault && thrown.address === unmapped;
      await assert.rejects(target.memory(0).read(unmapped, 4), isFault);
      await assert.rejects(target.memory(0).write(unmapped, bytes), isFault);
    },
  },
  breakpoints('software'),
  breakpoints('hardware'),
  {
    name: 'a watchpoint stops before the store',
    run: async (guest) => {
      await prepare(guest);
      const { target, code, data } = guest;
      const pc = Gva(code + 8n);
      const id = await target.insert({ kind: 'watch', address: data, length: 8, access: 'write' }, 0);
      for (let hits = 1n; hits <= 3n; hits++) {
        assert.deepEqual(await one(target.resume()), { kind: 'watchpoint', vcpu: 0, pc, accessed: data, ids: [id] });
        assert.equal(await word(target, data), hits - 1n);
      }
      await target.remove(id);
      await runOn(target);
    },
  },
  {
    name: 'stop points that cannot be are refused, with numbers where a budget is used up',
    run: async (guest) => {
      await prepare(guest);
      const { target, code, data, unmapped } = guest;
      await assert.rejects(target.insert({ kind: 'software', address: Gva(code + 2n) }, 0), isTargetError(/align/));
      await assert.rejects(target.insert({ kind: 'software', address: unmapped }, 0), TargetError);
      const ids: StopPointId[] = [];
      const { hardwareBreakpoints, hardwareWatchpoints } = target.capabilities;
      for (let n = 0; n < hardwareBreakpoints; n++) {
        ids.push(await target.insert({ kind: 'hardware', address: Gva(code + 0x100n + 4n * BigInt(n)) }, 0));
      }
      const oneMore = target.insert({ kind: 'hardware', address: code }, 0);
      await assert.rejects(oneMore, isTargetError(new RegExp(`\\b${hardwareBreakpoints}\\b`)));
      const watch = { kind: 'watch', length: 8, access: 'read' } as const;
      for (let n = 0; n < hardwareWatchpoints; n++) {
        ids.push(await target.insert({ ...watch, address: Gva(data + 0x40n + 16n * BigInt(n)) }, 0));
      }
      const oneMoreWatch = target.insert({ ...watch, address: data }, 0);
      await assert.rejects(oneMoreWatch, isTargetError(new RegExp(`\\b${hardwareWatchpoints}\\b`)));
      await runOn(target);
      for (const id of ids) await target.remove(id);
      await target.remove(await target.insert({ kind: 'hardware', address: code }, 0));
    },
  },
  {
    name: 'an interrupt just before a run ends it, and no other',
    run: async (guest) => {
      await prepare(guest);
      const { target, code } = guest;
      target.interrupt();
      assert.equal((await one(target.resume())).kind, 'interrupted');
      const id = await target.insert({ kind: 'hardware', address: Gva(code + 8n) }, 0);
      assert.equal((await one(target.resume())).kind, 'breakpoint');
      await target.remove(id);
    },
  },
  {
    name: 'a step is exactly one instruction',
    run: async (guest) => {
      await prepare(guest);
      const { target, code } = guest;
      for (let step = 1; step <= 12; step++) {
        const pc = code + BigInt((4 * step) % 16);
        assert.deepEqual(await one(target.step(0)), { kind: 'step', vcpu: 0, pc });
        assert.equal(await get(target, 'x19'), BigInt(Math.floor((step + 3) / 4)));
        assert.equal(await get(target, 'x20'), BigInt(Math.floor((step + 2) / 4)));
      }
    },
  },
  {
    name: 'a step with an end goes past neither that, nor a stop point, nor a branch',
    run: async (guest) => {
      const { target, code, data } = guest;
      /** Where steps with that end come by until one is at `last`. */
      const places = async (end: bigint, last: bigint): Promise<readonly bigint[]> => {
        await prepare(guest);
        const passed: bigint[] = [];
        while (passed.at(-1) !== last) {
          const event = await one(target.step(0, Gva(end)));
          if (event.kind !== 'step' || passed.length > 4) assert.fail(`${event.kind} after ${passed}`);
          passed.push(event.pc);
        }
        return passed;
      };
      await places(code + 8n, code + 8n);
      assert.equal(await get(target, 'x20'), 1n);
      assert.equal(await word(target, data), 0n);
      // The branch at 12 leads back.
      await places(code + 64n, code);
      assert.equal(await get(target, 'x19'), 1n);
      assert.equal(await word(target, data), 1n);
      assert.deepEqual(await places(code, code + 4n), [code + 4n], 'an end that is not ahead');
      const id = await target.insert({ kind: 'software', address: Gva(code + 4n) }, 0);
      assert.deepEqual(await places(code + 12n, code + 4n), [code + 4n]);
      await target.remove(id);
    },
  },
  {
    name: 'a step onto a breakpoint is a step; the run that follows leaves it first',
    run: async (guest) => {
      await prepare(guest);
      const { target, code } = guest;
      const id = await target.insert({ kind: 'software', address: Gva(code + 4n) }, 0);
      assert.deepEqual(await one(target.step(0)), { kind: 'step', vcpu: 0, pc: code + 4n });
      assert.equal((await one(target.resume())).kind, 'breakpoint');
      assert.equal(await get(target, 'x20'), 1n);
      await target.remove(id);
    },
  },
  {
    name: 'the end of the VM is told once and for all',
    needs: 'exit',
    run: async ({ target, killed = { code: undefined, signal: 9 } }) => {
      await target.kill();
      await target.kill();
      assert.deepEqual(await target.exited, killed);
      await target.detach();
    },
  },
];
