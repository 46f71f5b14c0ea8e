import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLaunch } from '../../src/dap/arguments.ts';
import { vmmCommand } from '../../src/dap/vmmCommand.ts';
import { describeGuest, isVmmProgram } from '../../src/extension/vmmCommandLine.ts';

const MiB = 1024 ** 2;

test('command lines of VMMs describe their guests', () => {
  type Optional<Type> = Type | undefined;
  const table: [string, string, Optional<string>?, Optional<number>?, Optional<number>?, string?][] = [
    ['lkvm run', 'kvmtool'],
    ['/usr/bin/lkvm run -k Image -m 512 -c 2 --name g1', 'kvmtool', 'g1', 2, 512 * MiB, 'Image'],
    ['lkvm run --kernel=/boot/Image --mem=2G --cpus=4', 'kvmtool', undefined, 4, 2048 * MiB, '/boot/Image'],
    ['lkvm run -k/boot/Image -m256 -c3', 'kvmtool', undefined, 3, 256 * MiB, '/boot/Image'],
    ['vm run --kernel a --kernel b -m 524288K', 'kvmtool', undefined, undefined, 512 * MiB, 'b'],
    ['lkvm-static run --console serial -k', 'kvmtool'],
    ['lkvm run --vnc --no-dhcp --kernelish x --memory 3', 'kvmtool'],
    ['qemu-system-aarch64 -m 1024 -smp 4 -kernel Image', 'QEMU', undefined, 4, 1024 * MiB, 'Image'],
    ['qemu-system-x86_64 -name guest=web,debug-threads=on -m size=4194304k', 'QEMU', 'web', undefined, 4096 * MiB],
    ['qemu-kvm --name db -smp 2,maxcpus=8 --kernel k', 'QEMU', 'db', 2, undefined, 'k'],
    ['/usr/libexec/qemu-kvm -m maxmem=8G,size=1G -smp cpus=3', 'QEMU', undefined, 3, 1024 * MiB],
    ['qemu-system-aarch64 -smp sockets=2,cores=3,threads=2 -name a,,b', 'QEMU', 'a,b', 12],
    ['qemu-system-aarch64 -name debug-threads=on -m lots', 'QEMU'],
    ['/lib64/ld.so --library-path /x /opt/qemu-system-aarch64 -m 1G', 'QEMU', undefined, undefined, 1024 * MiB],
    ['cloud-hypervisor --cpus boot=2 --memory size=1G --kernel v', 'cloud-hypervisor', undefined, 2, 1024 * MiB, 'v'],
    ['crosvm run --cpus num-cores=2 --mem 512 --name x Image', 'crosvm', 'x', 2, 512 * MiB],
    ['firecracker --id box --config-file c', 'firecracker', 'box'],
    ['./vmm --accel kvm --kernel /k', 'vmm', undefined, undefined, undefined, '/k'],
    ['./vmm --user vm --cpus 2', 'vmm', undefined, 2],
    ['nice /usr/bin/qemu-system-aarch64 -m 1G', 'QEMU', undefined, undefined, 1024 * MiB],
    ['/lib/ld-linux-aarch64.so.1 --library-path /x /opt/lkvm run -c 2', 'kvmtool', undefined, 2],
    ['/opt/own-vmm -k Image', 'own-vmm', undefined, undefined, undefined, 'Image'],
  ];
  for (const [line, vmm, name, vcpus, memory, kernel] of table) {
    assert.deepEqual(describeGuest(line.split(' ')), { vmm, name, vcpus, memory, kernel }, line);
  }
  assert.equal(describeGuest([]).vmm, '');
});

test('the command lines that the adapter makes are understood', () => {
  for (const vmm of ['kvmtool', 'qemu']) {
    const values = { vmm, kernel: '/boot/Image', cpus: 2, memory: '1G', params: 'console=ttyS0 -m 3' };
    const { vcpus, memory, kernel } = describeGuest(vmmCommand(parseLaunch(values).vmm));
    assert.deepEqual({ vcpus, memory, kernel }, { vcpus: 2, memory: 1024 * MiB, kernel: '/boot/Image' });
  }
});

test('a VMM is known by its program, where no more can be seen', () => {
  const vmms = ['qemu-system-x86_64', '/usr/bin/lkvm run', 'vm run', 'firecracker --id a', 'crosvm run'];
  for (const line of vmms) assert.ok(isVmmProgram(line.split(' ')), line);
  for (const line of ['qemu-img', 'vm', 'bash -c lkvm', 'vim lkvm', ''])
    assert.ok(!isVmmProgram(line.split(' ')), line);
  assert.ok(!isVmmProgram([]));
});
