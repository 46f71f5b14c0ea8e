import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { findVmms } from '../../src/extension/vmms.ts';

describe('the list of running VMMs', () => {
  const proc = mkdtempSync(join(tmpdir(), 'kvm-debug-proc-'));
  after(() => rmSync(proc, { recursive: true }));

  function process(pid: number, name: string, commandLine: string[], open: string[]): void {
    const folder = join(proc, String(pid));
    mkdirSync(join(folder, 'fd'), { recursive: true });
    writeFileSync(join(folder, 'comm'), `${name}\n`);
    writeFileSync(join(folder, 'cmdline'), commandLine.map((argument) => `${argument}\0`).join(''));
    for (const [fd, target] of open.entries()) symlinkSync(target, join(folder, 'fd', String(fd)));
  }

  it('holds the processes with a VM open, each with its vCPUs, by pid', async () => {
    mkdirSync(join(proc, 'sys'));
    mkdirSync(join(proc, '77')); // ends while it is looked at: nothing in it
    process(500, 'bash', ['bash'], ['/dev/pts/0']);
    process(400, 'libvirtd', ['libvirtd'], ['/dev/kvm']);
    const kvm = ['/dev/kvm', 'anon_inode:kvm-vm'];
    process(300, 'qemu-system-aar', ['qemu-system-aarch64', '-accel', 'kvm'], [...kvm, 'anon_inode:kvm-vcpu:0']);
    const vcpus = ['anon_inode:kvm-vcpu:0', 'anon_inode:kvm-vcpu:1', 'anon_inode:kvm-vcpu:1'];
    process(200, 'lkvm', ['lkvm', 'run'], [...kvm, ...vcpus]);

    assert.deepEqual(await findVmms(proc), {
      vmms: [
        { pid: 200, name: 'lkvm', commandLine: 'lkvm run', vcpus: 2 },
        { pid: 300, name: 'qemu-system-aar', commandLine: 'qemu-system-aarch64 -accel kvm', vcpus: 1 },
      ],
      hidden: 0,
    });
  });

  it('can be made of the real /proc', async () => {
    assert.ok(Array.isArray((await findVmms()).vmms));
  });
});
