// The virtual machines that run here, as far as /proc shows them to this user (proc(5)).
import { readdir, readFile, readlink } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { describeGuest, type GuestDescription, isVmmProgram } from './vmmCommandLine.ts';

/** A process that has a virtual machine of KVM open. */
export interface Vmm extends GuestDescription {
  readonly pid: number;
  readonly commandLine: string;
  /** In bytes: what the process has in memory now. */
  readonly resident: number | undefined;
  readonly owner: string;
  /** False: this user may not look into the process; that it is a VMM is told by its program's name. */
  readonly accessible: boolean;
  /** Who traces it: one debugger at a time can. */
  readonly tracer: { readonly pid: number; readonly name: string } | undefined;
}

export interface RunningVmms {
  /** Those to attach to first, by pid. */
  readonly vmms: readonly Vmm[];
  /** How many other processes could not be looked into, and may be VMMs or not. */
  readonly hidden: number;
}

/** Where to look. */
export interface System {
  readonly proc: string;
  readonly passwd: string;
}

const here: System = { proc: '/proc', passwd: '/etc/passwd' };

export async function findVmms(system: System = here): Promise<RunningVmms> {
  // Without a /proc, on a machine that is no Linux, there are none.
  const entries = await readdir(system.proc).catch(() => []);
  const owners = ownerNames(await readFile(system.passwd, 'utf8').catch(() => ''));
  const pids = entries.filter((entry) => /^\d+$/.test(entry));
  const found = await Promise.all(pids.map((pid) => examine(system.proc, pid, owners)));
  const rank = (vmm: Vmm): number => (vmm.accessible ? 0 : 2) + (vmm.tracer === undefined ? 0 : 1);
  return {
    vmms: found.filter((vmm) => typeof vmm === 'object').sort((a, b) => rank(a) - rank(b) || a.pid - b.pid),
    hidden: found.filter((vmm) => vmm === 'hidden').length,
  };
}

/** The kernel that a VMM booted, if its command line names one. */
export async function kernelOf(pid: number, proc = here.proc): Promise<string | undefined> {
  const folder = join(proc, String(pid));
  const kernel = describeGuest(await commandLine(folder).catch(() => [])).kernel;
  if (kernel === undefined || isAbsolute(kernel)) return kernel;
  const cwd = await readlink(join(folder, 'cwd')).catch(() => undefined);
  return cwd && join(cwd, kernel);
}

async function examine(
  proc: string,
  pid: string,
  owners: ReadonlyMap<string, string>,
): Promise<Vmm | 'hidden' | undefined> {
  const folder = join(proc, pid);
  try {
    const open = await descriptors(folder);
    if (open && !open.includes('anon_inode:kvm-vm')) return undefined;
    const argv = await commandLine(folder);
    if (!open && !isVmmProgram(argv)) return 'hidden';
    const status = await readFile(join(folder, 'status'), 'utf8');
    const described = describeGuest(argv);
    const vcpus = new Set(open?.filter((target) => target.startsWith('anon_inode:kvm-vcpu:'))).size;
    const uid = field(status, 'Uid')?.split(/\s/)[0] ?? '';
    const resident = Number.parseInt(field(status, 'VmRSS') ?? '', 10); // kB
    return {
      ...described,
      vmm: described.vmm || field(status, 'Name') || `process ${pid}`,
      pid: Number(pid),
      vcpus: vcpus || described.vcpus,
      commandLine: argv.join(' ').trim(),
      resident: Number.isNaN(resident) ? undefined : resident * 1024,
      owner: owners.get(uid) ?? (uid && `uid ${uid}`),
      accessible: open !== undefined,
      tracer: await tracer(proc, folder),
    };
  } catch {
    return undefined; // it has ended
  }
}

/** What a process has open; undefined when this user may not see it. */
async function descriptors(folder: string): Promise<readonly string[] | undefined> {
  try {
    const names = await readdir(join(folder, 'fd'));
    // KVM's are anonymous inodes: `kvm-vm`, `kvm-vcpu:N` (kvm_dev_ioctl_create_vm and create_vcpu_fd in Linux'
    // virt/kvm/kvm_main.c). A descriptor may be closed meanwhile.
    return await Promise.all(names.map((name) => readlink(join(folder, 'fd', name)).catch(() => '')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM')) {
      return undefined;
    }
    throw error;
  }
}

const commandLine = async (folder: string): Promise<readonly string[]> =>
  (await readFile(join(folder, 'cmdline'), 'utf8')).split('\0').filter((argument) => argument !== '');

const field = (status: string, name: string): string | undefined =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1];

/** A debugger of vCPUs traces their threads, and need not trace the first one. */
async function tracer(proc: string, folder: string): Promise<Vmm['tracer']> {
  const tids = await readdir(join(folder, 'task')).catch(() => []);
  const statuses = await Promise.all(
    tids.map((tid) => readFile(join(folder, 'task', tid, 'status'), 'utf8').catch(() => '')),
  );
  const pid = statuses.map((status) => Number(field(status, 'TracerPid') ?? 0)).find((other) => other > 0);
  if (pid === undefined) return undefined;
  const name = await readFile(join(proc, String(pid), 'comm'), 'utf8').catch(() => '');
  return { pid, name: name.trim() || 'a process' };
}

/** Names by user id (passwd(5)). Users that a directory service knows are not among them. */
function ownerNames(passwd: string): ReadonlyMap<string, string> {
  return new Map(
    passwd.split('\n').flatMap((line): [string, string][] => {
      const [name, , uid] = line.split(':');
      return name && uid ? [[uid, name]] : [];
    }),
  );
}
