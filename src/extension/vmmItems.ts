// How the list of running VMs reads.
import { parseAttach } from '../dap/arguments.ts';
import type { RunningVmms, Vmm } from './vmms.ts';

export interface VmmItem {
  readonly label: string;
  readonly description?: string;
  readonly detail?: string;
  /** Stays whatever is typed. */
  readonly alwaysShow?: boolean;
  /** Neither this nor `remote`: looks again. */
  readonly pid: number | undefined;
  /** Where a GDB stub listens. */
  readonly remote?: string;
}

export interface ListOptions {
  /** The adapter may be on another machine, whose VMs are not known here. */
  readonly isElsewhere?: boolean;
  /** A GDB stub will do too. */
  readonly takesRemote?: boolean;
}

/** `typed`: what the user has typed so far. A number is offered as a process id, for a VM that is not in the list: on the
 *  adapter's machine, when that is another one, or hidden from this user. */
export function vmmItems({ vmms, hidden }: RunningVmms, typed = '', options: ListOptions = {}): VmmItem[] {
  const items = vmms.map(itemOf);
  const pid = /^\s*[1-9]\d{0,9}\s*$/.test(typed) ? Number(typed) : undefined;
  if (pid !== undefined && !vmms.some((vmm) => vmm.pid === pid)) {
    items.push({
      label: `$(circuit-board) Process ${pid}`,
      detail: 'Attach to it if it is a VMM',
      alwaysShow: true,
      pid,
    });
  }
  if (options.takesRemote && isRemote(typed)) {
    const remote = typed.trim();
    items.push({
      label: `$(remote) ${remote}`,
      detail: 'Attach to the GDB stub that listens there',
      alwaysShow: true,
      pid: undefined,
      remote,
    });
  }
  if (vmms.length === 0 && !options.isElsewhere) items.push(noneItem(hidden));
  return items;
}

/** As the adapter takes it. */
function isRemote(text: string): boolean {
  try {
    return parseAttach({ remote: text }).remote !== undefined;
  } catch {
    return false;
  }
}

function itemOf(vmm: Vmm): VmmItem {
  const name = vmm.name ?? vmm.vmm;
  const icon = !vmm.accessible ? 'lock' : vmm.tracer ? 'debug-alt' : 'vm-running';
  const facts = [
    ...(vmm.name === undefined ? [] : [vmm.vmm]),
    `pid ${vmm.pid}`,
    ...(vmm.vcpus === undefined ? [] : [`${vmm.vcpus} ${vmm.vcpus === 1 ? 'vCPU' : 'vCPUs'}`]),
    ...memory(vmm),
    ...(vmm.owner === '' ? [] : [vmm.owner]),
  ];
  const obstacle = !vmm.accessible
    ? `of another user: needs an adapter that runs as ${vmm.owner === 'root' ? 'root' : `${vmm.owner || 'its owner'} or root`} ("debugServer")`
    : vmm.tracer && `traced by ${vmm.tracer.name} (pid ${vmm.tracer.pid}) already: end that first`;
  return {
    label: `$(${icon}) ${name}`,
    description: facts.join(' · '),
    detail: [...(obstacle ? [obstacle] : []), vmm.kernel ?? vmm.commandLine].join(' · '),
    pid: vmm.pid,
  };
}

function memory({ memory, resident }: Vmm): readonly string[] {
  if (memory !== undefined) return [size(memory)];
  return resident === undefined ? [] : [`${size(resident)} in use`];
}

function noneItem(hidden: number): VmmItem {
  const others = `${hidden} ${hidden === 1 ? 'process' : 'processes'} of other users could not be looked into: type a process id, or run the adapter as root ("debugServer").`;
  return {
    label: '$(refresh) Look Again',
    description: 'no process here has a KVM virtual machine open',
    detail: hidden > 0 ? others : 'Start a VM first, press F5 to launch one, or type the process id of a VMM.',
    alwaysShow: true,
    pid: undefined,
  };
}

function size(bytes: number): string {
  const mib = Math.round(bytes / 1024 ** 2);
  return mib >= 1024 && mib % 512 === 0 ? `${mib / 1024} GiB` : `${mib} MiB`;
}
