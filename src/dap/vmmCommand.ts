import { type VmmConfiguration, vmmNames } from './arguments.ts';

type NamedVmm = Exclude<VmmConfiguration, { kind: 'command' }>;

/** The command line of a configured VMM; `program` is where it was found. */
export function vmmCommand(vmm: VmmConfiguration, program?: string): readonly [string, ...string[]] {
  if (vmm.kind === 'command') return vmm.argv;
  const path = program ?? vmm.path ?? vmmNames[vmm.kind][0];
  return [path, ...(vmm.kind === 'kvmtool' ? kvmtool(vmm) : qemu(vmm)), ...vmm.arguments];
}

const option = (flag: string, value: string | undefined): string[] => (value === undefined ? [] : [flag, value]);

function kvmtool(vmm: NamedVmm): string[] {
  return [
    'run',
    '-k',
    vmm.kernel,
    ...option('-i', vmm.initrd),
    ...option('-d', vmm.disk),
    '-m',
    `${vmm.memoryMiB}`,
    '-c',
    `${vmm.cpus}`,
    '--console',
    'serial',
    ...option('-p', vmm.params),
  ];
}

function qemu(vmm: NamedVmm): string[] {
  // A comma separates QEMU's options; doubled it is one.
  const disk = vmm.disk?.replaceAll(',', ',,');
  const format = vmm.disk?.endsWith('.qcow2') ? 'qcow2' : 'raw';
  return [
    '-M',
    'virt,gic-version=host',
    '-accel',
    'kvm',
    '-cpu',
    'host',
    '-m',
    `${vmm.memoryMiB}M`,
    '-smp',
    `${vmm.cpus}`,
    '-nodefaults',
    '-display',
    'none',
    // The monitor shares the terminal: without it Ctrl-C would end QEMU instead of reaching the guest.
    '-serial',
    'mon:stdio',
    '-no-reboot',
    '-kernel',
    vmm.kernel,
    ...option('-initrd', vmm.initrd),
    ...option('-drive', disk && `if=virtio,format=${format},file=${disk}`),
    ...option('-append', vmm.params),
  ];
}
