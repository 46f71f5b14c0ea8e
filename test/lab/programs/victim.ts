/** A debugger that is going to be killed: `node victim.mjs WHAT PID ADDRESS…`, or with a command line instead of a pid.
 *  It says READY when it is in the state to be killed in. The addresses get a software breakpoint each, the last one a
 *  hardware breakpoint. */

import { guestWords } from '../../../lab/vmm.ts';
import { Gva } from '../../../src/base/address.ts';
import { ThreadRegisters } from '../../../src/target/kvm/threadRegisters.ts';
import { VcpuThread } from '../../../src/target/kvm/vcpuThread.ts';
import type { Target } from '../../../src/target/target.ts';
import { connector } from './vms.ts';

// As another user than root, to see what is refused to it.
if (process.env.RUN_AS !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(Number(process.env.RUN_AS));
  process.setuid?.(Number(process.env.RUN_AS));
}

const [what, where = '', ...addresses] = process.argv.slice(2);
const { signal } = new AbortController();

async function connect(): Promise<Target> {
  if (/^\d+$/.test(where)) return connector.attach({ pid: Number(where), exitTrap: 'auto' }, signal);
  const argv = guestWords(where);
  const environment = process.env as Record<string, string>;
  const { target, console: guest } = await connector.launch({ argv, cwd: '/', environment, exitTrap: 'auto' }, signal);
  guest.output.resume();
  return target;
}

const target = await connect().catch((thrown: Error) => {
  process.stdout.write(`REFUSED ${thrown.name}: ${thrown.message}\n`);
  process.exit(1);
});
process.stdout.write(`TRAP ${target.capabilities.facts.get('exit trap')}\n`);
for (const [index, address] of addresses.entries()) {
  const kind = index === addresses.length - 1 ? 'hardware' : 'software';
  await target.insert({ kind, address: Gva(BigInt(address)) }, 0);
}
// Something to stay alive for while the target is stopped.
setInterval(() => {}, 1000);
const die = (): boolean => process.kill(process.pid, 'SIGKILL');
const ready = (): void => void process.stdout.write('READY\n');

/** Dies when it next lets a vCPU go. */
function dieArmed(): void {
  const { resume } = VcpuThread.prototype;
  VcpuThread.prototype.resume = function (request) {
    resume.call(this, request);
    die();
  };
}

/** Dies when it would next give a thread the registers to work for it with. */
function dieInjecting(): void {
  ThreadRegisters.prototype.write = die;
}

switch (what) {
  case 'stopped':
    if (addresses.length > 0) await target.resume();
    ready();
    break;
  case 'running':
    for (let hits = 0; ; hits++) {
      await target.resume();
      if (hits === 3) ready();
    }
  case 'quiet': // runs, no breakpoint is hit
    setImmediate(ready);
    await target.resume();
    break;
  case 'stepping':
    process.on('SIGUSR2', dieArmed);
    for (let steps = 0; ; steps++) {
      await target.step(0);
      if (steps === 20) ready();
    }
  case 'injecting':
    ready();
    dieInjecting();
    await target.step(0);
}
