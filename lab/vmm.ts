/** Command lines of nested guests in the lab, as a user would type them. */

export interface GuestOptions {
  cpus?: number;
  /** In MiB. */
  memory?: number;
  /** The kernel moves itself to a random place. */
  kaslr?: boolean;
  /** Initramfs; that of guest.ts unless told. */
  initrd?: string;
  /** QEMU: makes the VM and does not let it run. */
  paused?: boolean;
}

/**
 * Shell command (one process, by `exec`) that runs the nested guest, console on standard output. `parameters` is added
 * to the kernel's command line; lab/guest/init lists the `guest.*` words.
 */
export function guestCommand(
  vmm: 'kvmtool' | 'qemu',
  parameters = '',
  { cpus = 2, memory = 192, kaslr = false, initrd = '/lab/guest/initrd', paused = false }: GuestOptions = {},
): string {
  const common = `quiet panic=-1 ${kaslr ? '' : 'nokaslr '} cryptomgr.notests=1 rdinit=/init ${parameters}`;
  if (vmm === 'kvmtool') {
    return (
      `exec lkvm run -k /lab/guest/Image -i ${initrd} -m ${memory} -c ${cpus} --console serial` +
      `${kaslr ? ' --kaslr-seed 0x7654321076543210' : ''}` +
      ` -p "console=ttyS0 ${common}"`
    );
  }
  return (
    `exec qemu-system-aarch64 -M virt,gic-version=3 -accel kvm -cpu host -smp ${cpus} -m ${memory}` +
    ` -display none -nodefaults -serial stdio -no-reboot${paused ? ' -S' : ''}` +
    ` -kernel /lab/guest/Image -initrd ${initrd} -append "console=ttyAMA0 ${common}"`
  );
}

/** The words of a command line of `guestCommand`, in which only double quotes quote. */
export function guestWords(command: string): [string, ...string[]] {
  const [first = '', ...rest] = [...command.replace(/^exec /, '').matchAll(/"([^"]*)"|\S+/g)].map(
    ([word, quoted]) => quoted ?? word,
  );
  return [first, ...rest];
}
