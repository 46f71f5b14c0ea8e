import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findVmms, kernelOf } from '../../src/extension/vmms.ts';

interface Process {
  readonly commandLine: readonly string[];
  readonly open?: readonly string[];
  readonly uid?: number;
  readonly resident?: number;
  /** By thread. */
  readonly tracers?: readonly number[];
  readonly cwd?: string;
}

/** Root may look into everything; without a right to, as others are, it is a user of no files. */
async function asNobody<Result>(look: () => Promise<Result>): Promise<Result> {
  if (process.geteuid?.() !== 0) return look();
  process.seteuid?.(65534);
  try {
    return await look();
  } finally {
    process.seteuid?.(0);
  }
}

describe('the list of running VMMs', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-proc-'));
  const proc = join(scratch, 'proc');
  const passwd = join(scratch, 'passwd');
  const system = { proc, passwd };

  function add(pid: number, { commandLine, open, uid = 1000, resident, tracers = [0], cwd }: Process): void {
    const folder = join(proc, String(pid));
    mkdirSync(folder, { recursive: true });
    const name = commandLine[0]?.slice(0, 15) ?? 'kthread';
    writeFileSync(join(folder, 'comm'), `${name}\n`);
    writeFileSync(join(folder, 'cmdline'), commandLine.map((argument) => `${argument}\0`).join(''));
    const status = (tracer: number) =>
      `Name:\t${name}\nTracerPid:\t${tracer}\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n${resident ? `VmRSS:\t   ${resident} kB\n` : ''}`;
    writeFileSync(join(folder, 'status'), status(0));
    for (const [index, tracer] of tracers.entries()) {
      mkdirSync(join(folder, 'task', String(pid + index)), { recursive: true });
      writeFileSync(join(folder, 'task', String(pid + index), 'status'), status(tracer));
    }
    if (cwd) symlinkSync(cwd, join(folder, 'cwd'));
    mkdirSync(join(folder, 'fd'));
    if (open === undefined) chmodSync(join(folder, 'fd'), 0);
    else for (const [fd, target] of open.entries()) symlinkSync(target, join(folder, 'fd', String(fd)));
  }

  const kvm = ['/dev/kvm', 'anon_inode:kvm-vm'];
  before(() => {
    chmodSync(scratch, 0o755);
    writeFileSync(passwd, 'root:x:0:0:root:/root:/bin/sh\nmia:x:1000:1000::/home/mia:/bin/sh\nbroken\n');
    mkdirSync(join(proc, 'sys'), { recursive: true });
    mkdirSync(join(proc, '77')); // ends while it is looked at: nothing in it
    add(500, { commandLine: ['bash'], open: ['/dev/pts/0'] });
    add(400, { commandLine: ['libvirtd'], open: ['/dev/kvm'] });
    const vcpus = ['anon_inode:kvm-vcpu:0', 'anon_inode:kvm-vcpu:1', 'anon_inode:kvm-vcpu:1'];
    add(300, {
      commandLine: ['qemu-system-aarch64', '-name', 'web', '-m', '1G', '-smp', '8'],
      open: [...kvm, 'anon_inode:kvm-vcpu:0'],
      uid: 64055,
      resident: 2048,
    });
    add(100, { commandLine: ['lkvm', 'run'], open: [...kvm, ...vcpus], tracers: [0, 500] });
    add(200, { commandLine: ['lkvm', 'run', '-k', 'Image'], open: [...kvm, ...vcpus], cwd: '/src/linux' });
  });
  after(() => rmSync(scratch, { recursive: true }));

  it('holds the processes with a VM open: who they are, and those to attach to first', async () => {
    const nothing = { name: undefined, memory: undefined, kernel: undefined, resident: undefined, tracer: undefined };
    assert.deepEqual(await findVmms(system), {
      vmms: [
        {
          ...nothing,
          ...{ pid: 200, vmm: 'kvmtool', vcpus: 2, kernel: 'Image', owner: 'mia' },
          ...{ accessible: true, commandLine: 'lkvm run -k Image' },
        },
        {
          ...nothing,
          ...{ pid: 300, vmm: 'QEMU', name: 'web', vcpus: 1, memory: 1024 ** 3, resident: 2048 * 1024 },
          ...{ owner: 'uid 64055', accessible: true },
          commandLine: 'qemu-system-aarch64 -name web -m 1G -smp 8',
        },
        {
          ...nothing,
          ...{ pid: 100, vmm: 'kvmtool', vcpus: 2, owner: 'mia', accessible: true, commandLine: 'lkvm run' },
          tracer: { pid: 500, name: 'bash' },
        },
      ],
      hidden: 0,
    });
  });

  it('tells the kernel that a VMM booted', async () => {
    assert.equal(await kernelOf(200, proc), '/src/linux/Image');
    assert.equal(await kernelOf(300, proc), undefined);
    assert.equal(await kernelOf(9999, proc), undefined);
  });

  it("shows another user's VMM by its name, and counts what else is hidden", async () => {
    add(600, { commandLine: ['qemu-system-aarch64', '-smp', '4'], uid: 0 });
    add(700, { commandLine: ['sshd'], uid: 0 });
    const { vmms, hidden } = await asNobody(() => findVmms(system));
    const { pid, owner, accessible, vcpus } = vmms.at(-1) ?? {};
    assert.deepEqual({ pid, owner, accessible, vcpus }, { pid: 600, owner: 'root', accessible: false, vcpus: 4 });
    assert.equal(hidden, 1);
  });

  it('can be made of the real /proc, and where there is none', async () => {
    assert.ok(Array.isArray((await findVmms()).vmms));
    const nowhere = { proc: join(scratch, 'missing'), passwd: join(scratch, 'missing') };
    assert.deepEqual(await findVmms(nowhere), { vmms: [], hidden: 0 });
  });
});
