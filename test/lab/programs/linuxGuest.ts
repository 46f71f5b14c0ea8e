/** The Linux guest of the test programs: its symbols, and one that keeps its vCPUs busy. */
import { Gva } from '../../../src/base/address.ts';
import { type RunningVm, startLinux, type Vmm } from './vms.ts';

/** Addresses of the kernel's symbols, from its vmlinux. */
const symbols = new Map<string, Gva>(
  Object.entries(JSON.parse(process.env.SYMBOLS ?? '{}') as Record<string, string>).map(([name, address]) => [
    name,
    Gva(BigInt(address)),
  ]),
);
export const symbol = (name: string): Gva => {
  const address = symbols.get(name);
  if (address === undefined) throw new Error(`no symbol ${name}`);
  return address;
};

/** Functions that are reached all the time in a guest that spins, and as good as never. */
export const hot = 'el0t_64_sync_handler';
export const cold = '__arm64_sys_ptrace';

/** A guest in user space, whose vCPUs loop over system calls and which prints a tick each second. */
export async function spinning(vmm: Vmm, { ticks = 0, cpus = 2 } = {}): Promise<RunningVm> {
  const vm = await startLinux(vmm, `nowatchdog guest.do=spin guest.ticks=${ticks}`, { cpus });
  await vm.output.waitFor(/GUEST-TICK 1/, { timeout: 120_000 });
  return vm;
}
