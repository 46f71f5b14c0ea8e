/** The lab itself, before anything is debugged in it. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { bootLab, type Lab, type LabCpu, lkvm } from '../../lab/lab.ts';
import { guestCommand } from '../../lab/vmm.ts';

const kvmtool = lkvm();

const MODES: [LabCpu, RegExp][] = [
  ['neoverse-n1', /VHE mode initialized/],
  ['cortex-a72', /Hyp mode initialized/],
];

for (const [cpu, mode] of MODES) {
  describe(`lab on ${cpu}`, { timeout: 300_000 }, () => {
    let lab: Lab;
    before(async () => {
      lab = await bootLab({ cpu, forward: [4711], files: { '/job/text': Buffer.from('brought along\n') } });
    });
    after(() => lab?.close());

    test('has KVM, tracefs, Node and koffi', async () => {
      const { status, output } = await lab.run(
        `test -c /dev/kvm && dmesg | grep 'kvm.*initialized' && test -e /sys/kernel/tracing/events/kvm/kvm_exit &&
         node -e 'console.log("node", process.versions.node, Object.keys(require("koffi")).includes("load"))'`,
      );
      assert.equal(status, 0, output);
      assert.match(output, mode);
      assert.match(output, /^node 22\.\S+ true$/m);
    });

    test('transports status, output, input and files', async () => {
      assert.deepEqual(await lab.run('cat /job/text; echo error >&2; exit 7'), {
        status: 7,
        output: 'brought along\nerror\n',
      });
      assert.deepEqual(await lab.run('kill -9 $$'), { status: 137, output: '' });
      assert.deepEqual(await lab.run('wc -c', { input: 'four' }), { status: 0, output: '4\n' });
      const big = await lab.run('seq 100000');
      assert.equal(big.output.length, 588_895);
    });

    test('runs commands at the same time, and leaves background processes running', async () => {
      let late = '';
      const heard = new Promise<void>((resolve) => {
        const onOutput = (text: string): void => {
          late += text;
          if (late.includes('late')) resolve();
        };
        lab.run('mkfifo /tmp/go; (cat /tmp/go; echo late) & echo early', { onOutput }).catch(assert.ifError);
      });
      const waiting = lab.start('cat');
      assert.equal((await lab.run('until [ -p /tmp/go ]; do usleep 1000; done; echo >/tmp/go')).status, 0);
      await heard;
      assert.match(late, /early\n.*late\n/s);
      waiting.write('word\n');
      await waiting.waitFor(/word/);
      waiting.kill('SIGTERM');
      assert.equal((await waiting.ended).status, 143);
    });

    test('gives up on a command that takes too long', async () => {
      await assert.rejects(lab.run('echo before; sleep 1000', { timeout: 1000 }), /more than 1000 ms.*before/s);
    });

    test('forwards a port', async () => {
      const server = lab.start(
        `node -e 'require("net").createServer((s) => s.end("hello")).listen(4711, () => console.log("listening"))'`,
      );
      await server.waitFor(/listening/);
      const socket = connect(lab.port(4711), '127.0.0.1').setEncoding('utf8');
      let said = '';
      for await (const text of socket) said += text;
      assert.equal(said, 'hello');
      server.kill();
    });

    for (const vmm of ['kvmtool', 'qemu'] as const) {
      const skip =
        vmm === 'kvmtool' && !kvmtool ? 'skipped: no lkvm (a static arm64 one goes where LKVM names it)' : false;
      test(`runs a nested guest under ${vmm}`, { skip }, async () => {
        const guest = lab.start(guestCommand(vmm, 'guest.do=ticks guest.ticks=1 guest.module=dummy'));
        await guest.waitFor(/GUEST-USERSPACE cpus=2 do=ticks.*GUEST-MODULE dummy.*GUEST-TICK 1/s);
        const { status, output } = await guest.ended;
        assert.equal(status, 0, output);
        assert.match(output, /GUEST-POWEROFF/);
      });
    }
  });
}
