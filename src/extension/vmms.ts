import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** A process that has a virtual machine of KVM open. */
export interface Vmm {
  readonly pid: number;
  readonly name: string;
  readonly commandLine: string;
  readonly vcpus: number;
}

/** The VMMs that run, by pid, and how many processes were `hidden`: this user may not see what those have open. */
export async function findVmms(proc = '/proc'): Promise<{ vmms: Vmm[]; hidden: number }> {
  const pids = (await readdir(proc)).filter((entry) => /^\d+$/.test(entry));
  const found = await Promise.all(pids.map((pid) => examine(proc, pid)));
  return {
    vmms: found.filter((vmm) => typeof vmm === 'object').sort((a, b) => a.pid - b.pid),
    hidden: found.filter((vmm) => vmm === 'hidden').length,
  };
}

/** KVM's file descriptors are anonymous inodes: `kvm-vm`, `kvm-vcpu:N` (kvm_dev_ioctl_create_vm and
 *  create_vcpu_fd in Linux' virt/kvm/kvm_main.c). */
async function examine(proc: string, pid: string): Promise<Vmm | 'hidden' | undefined> {
  const folder = join(proc, pid);
  try {
    const names = await readdir(join(folder, 'fd'));
    // A descriptor may be closed meanwhile.
    const targets = await Promise.all(names.map((name) => readlink(join(folder, 'fd', name)).catch(() => '')));
    if (!targets.includes('anon_inode:kvm-vm')) return undefined;
    const vcpus = new Set(targets.filter((target) => target.startsWith('anon_inode:kvm-vcpu:'))).size;
    const name = (await readFile(join(folder, 'comm'), 'utf8')).trim();
    const commandLine = (await readFile(join(folder, 'cmdline'), 'utf8')).split('\0').join(' ').trim();
    return { pid: Number(pid), name, commandLine, vcpus };
  } catch (error) {
    const refused = error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM');
    return refused ? 'hidden' : undefined; // otherwise it has ended
  }
}
