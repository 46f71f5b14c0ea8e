import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAttach, parseLaunch } from '../../src/dap/arguments.ts';
import { checkBuildIds, kernelBuildIds } from '../../src/dap/buildId.ts';
import { parseListenAddress } from '../../src/dap/server.ts';
import { vmmCommand } from '../../src/dap/vmmCommand.ts';

test('every wrong field is named, with what it must be', () => {
  const kernel = '/boot/Image';
  const cases: [object, RegExp][] = [
    [{}, /"kernel" is missing; name the kernel Image/],
    [{ kernel: '' }, /"kernel" must be the path/],
    [{ kernel, vmm: 'vmware' }, /"vmm" must be one of "kvmtool", "qemu", not "vmware"/],
    [{ kernel, cpus: -2 }, /"cpus" must be a whole number of at least 1.*not -2/],
    [{ kernel, cpus: '2' }, /"cpus" must be a whole number/],
    [{ kernel, cpus: 1.5 }, /"cpus"/],
    [{ kernel, memory: 'lots' }, /"memory" must be a size.*"512M"/],
    [{ kernel, memory: 0 }, /"memory"/],
    [{ kernel, memory: '100K' }, /"memory"/],
    [{ kernel, vmmArgs: '--x' }, /"vmmArgs" must be a list of strings/],
    [{ kernel, sourceMap: ['/a'] }, /"sourceMap" must be an object/],
    [{ kernel, stopOnEntry: 'yes' }, /"stopOnEntry" must be true or false/],
    [{ kernel, breakpointMode: 'soft' }, /"breakpointMode" must be one of "auto", "software", "hardware"/],
    [{ kernel, console: 'tty' }, /"console" must be one of/],
    [{ kernel, symbols: 3 }, /"symbols" must be a string/],
    [{ kernel, exitTrap: 'x' }, /"exitTrap" must be one of/],
    [{ command: [] }, /"command" must be a list that begins with the VMM/],
    [{ command: 'qemu' }, /"command" must be a list of strings/],
    [{ command: ['x'], vmm: 'qemu' }, /exclude each other/],
  ];
  for (const [values, message] of cases) assert.throws(() => parseLaunch(values), message);
  assert.throws(() => parseAttach({}), /"pid" is missing/);
  for (const pid of [0, -5, 'init', 1.5, {}]) assert.throws(() => parseAttach({ pid }), /"pid" must be the process id/);
  assert.equal(parseAttach({ pid: ' 77 ' }).pid, 77);
  assert.throws(() => parseAttach({ pid: 1, remote: ':1' }), /"pid" and "remote" exclude each other/);
  const remotes: [unknown, object][] = [
    ['localhost:1234', { host: 'localhost', port: 1234 }],
    [' build-7.lan:65535 ', { host: 'build-7.lan', port: 65535 }],
    [':1234', { host: 'localhost', port: 1234 }],
    ['[::1]:1', { host: '::1', port: 1 }],
    ['[fe80::1%eth0]:1234', { host: 'fe80::1%eth0', port: 1234 }],
    ['127.0.0.1:1234', { host: '127.0.0.1', port: 1234 }],
  ];
  for (const [remote, expected] of remotes) assert.deepEqual(parseAttach({ remote }).remote, expected);
  for (const remote of [
    '',
    '1234',
    'host',
    'host:',
    'host:0',
    ':65536',
    '::1:1234',
    '[host]:1',
    'tcp://a:1',
    'a b:1',
  ]) {
    assert.throws(() => parseAttach({ remote }), /"remote" must be the address of a GDB stub as HOST:PORT/, remote);
  }
  assert.throws(() => parseAttach({ remote: 1234 }), /"remote" must be a string/);
});

test('fields that mean nothing are told', () => {
  const client = { type: 'kvm', request: 'launch', name: 'x', __sessionId: '1', preLaunchTask: 'build' };
  assert.deepEqual(parseLaunch({ ...client, kernel: '/boot/Image' }).ignored, []);
  assert.deepEqual(parseLaunch({ kernel: '/boot/Image', kernal: 'x', pid: 3 }).ignored, ['kernal', 'pid']);
  assert.deepEqual(parseLaunch({ command: ['vmm'], memory: '1G' }).ignored, ['memory']);
  assert.deepEqual(parseAttach({ pid: 3, vmm: 'qemu' }).ignored, ['vmm']);
  assert.deepEqual(parseAttach({ remote: ':1', vmm: 'qemu', exitTrap: 'perf' }).ignored, ['vmm', 'exitTrap']);
});

test('command lines', () => {
  const full = {
    kernel: 'Image',
    initrd: 'initrd',
    disk: 'd,1.img',
    cpus: 2,
    memory: '1G',
    params: 'quiet',
    vmmArgs: ['-x'],
  };
  const table: [object, string][] = [
    [{ kernel: 'Image' }, 'lkvm run -k Image -m 512 -c 1 --console serial'],
    [full, 'lkvm run -k Image -i initrd -d d,1.img -m 1024 -c 2 --console serial -p quiet -x'],
    [
      { ...full, vmm: 'qemu' },
      'qemu-system-aarch64 -M virt,gic-version=host -accel kvm -cpu host -m 1024M -smp 2 -nodefaults -display none ' +
        '-serial mon:stdio -no-reboot -kernel Image -initrd initrd -drive if=virtio,format=raw,file=d,,1.img -append quiet -x',
    ],
    [{ kernel: 'Image', vmmPath: '/opt/lkvm', memory: 192 }, '/opt/lkvm run -k Image -m 192 -c 1 --console serial'],
    [{ command: ['crosvm', 'run', 'a b'], kernel: 'ignored' }, 'crosvm run a b'],
  ];
  for (const [values, expected] of table) assert.equal(vmmCommand(parseLaunch(values).vmm).join(' '), expected);
  assert.equal(vmmCommand(parseLaunch({ kernel: 'k' }).vmm, 'kvmtool')[0], 'kvmtool');
});

test('listen addresses', () => {
  assert.deepEqual(parseListenAddress('4711'), { host: '127.0.0.1', port: 4711 });
  assert.deepEqual(parseListenAddress('0.0.0.0:0'), { host: '0.0.0.0', port: 0 });
  assert.deepEqual(parseListenAddress('[::1]:80'), { host: '::1', port: 80 });
  for (const bad of ['', 'x', '70000', 'host:', '1:2:3']) assert.throws(() => parseListenAddress(bad), /--listen/);
});

test('build-ids of a kernel image and of its symbols', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  try {
    const id = (byte: number): string => Buffer.alloc(20, byte).toString('hex');
    const note = (byte: number): Buffer =>
      Buffer.concat([Buffer.from('040000001400000003000000474e5500', 'hex'), Buffer.alloc(20, byte)]);
    const image = Buffer.alloc(3 << 20);
    // Across the border of two read windows, and one inside an embedded ELF.
    note(0xab).copy(image, (1 << 20) - 8);
    Buffer.from('\x7fELF').copy(image, 2 << 20);
    note(0xcd).copy(image, (2 << 20) + 0x200);
    const path = join(folder, 'Image');
    writeFileSync(path, image);
    assert.deepEqual(kernelBuildIds(path), [id(0xab)]);
    checkBuildIds(path, 'vmlinux', id(0xab));
    checkBuildIds(path, 'vmlinux', undefined);
    assert.throws(
      () => checkBuildIds(path, 'vmlinux', id(1)),
      new RegExp(`Image has build-id ${id(0xab)}, vmlinux has ${id(1)}`),
    );
    writeFileSync(path, Buffer.alloc(100));
    checkBuildIds(path, 'vmlinux', id(1));
    assert.throws(() => kernelBuildIds(join(folder, 'none')), /Cannot open the kernel/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
