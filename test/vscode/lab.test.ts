// What users do in VS Code, with a real kernel under KVM: the adapter and the VMs are in the lab, VS Code is here.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Locator, Page } from 'playwright-core';
import { kernelSource, lkvm } from '../../lab/lab.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { runGuest, session, type Vmm } from '../support/labUser.ts';
import { inWorkbench, picture, skip } from './inWorkbench.ts';
import type { Workbench } from './workbench.ts';

const vmm: Vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
/** A bound for what hangs: emulated, and beside other work, a boot may take minutes. */
const patience = { timeout: 300_000 };

const variable = (page: Page, text: RegExp): Locator =>
  page.locator('.debug-variables .monaco-list-row', { hasText: text }).first();
const frame = (page: Page, text: string): Locator =>
  page.locator('.debug-call-stack .monaco-list-row', { hasText: text }).first();
/** The place that a frame of the call stack shows. */
const badge = (page: Page, line: number): Locator =>
  page.locator('.debug-call-stack .monaco-list-row', { hasText: `${line}:` }).first();
const stopped = (page: Page, text: string | RegExp): Promise<void> => page.getByText(text).first().waitFor(patience);

describe('VS Code and the lab', { skip }, () => {
  let adapter: AdapterInLab;
  let source: string;
  before(async () => {
    source = readFileSync(join(await kernelSource(), 'init/main.c'), 'utf8');
    adapter = await startAdapterInLab();
  });
  after(() => adapter?.close());

  const lineOf = (text: string): number => source.split('\n').findIndex((line) => line.includes(text)) + 1;
  const launch = (parameters = ''): object => ({
    request: 'launch',
    ...guestConfiguration(vmm, { parameters }),
    debugServer: adapter.port,
  });
  const inTree = (name: string, configuration: object, work: (workbench: Workbench) => Promise<void>): Promise<void> =>
    inWorkbench(name, configuration, work, { 'init/main.c': source });

  test('a click beside a line, F5, the stop; variables, hover, watch, a register; step, continue, stop', async () => {
    await inTree('main-job', launch('guest.do=idle'), async (workbench) => {
      const { page } = workbench;
      const line = lineOf('\tboot_cpu_init();');
      await workbench.openFile('main.c');
      await workbench.goToLine(line);
      await workbench.clickGutter(line);
      await page.keyboard.press('F5');
      await stopped(page, 'Stopped on entry');
      await variable(page, /^x0\b/).waitFor();
      await picture(page, 'entry');
      await workbench.proceed('F5');
      await frame(page, 'start_kernel').waitFor(patience);
      await page.locator('.codicon-debug-stackframe').first().waitFor();
      await variable(page, /^command_line\b/).waitFor();
      await picture(page, 'breakpoint');

      await (await workbench.evaluate('init_task.comm')).filter({ hasText: '"swapper' }).waitFor();
      // An array of more than a hundred elements comes in pages (DAP, `indexedVariables`).
      const rows = await workbench.evaluate('__per_cpu_offset');
      await rows
        .filter({ hasText: /^\{.*\}$/ })
        .last()
        .locator('.monaco-tl-twistie')
        .click();
      await rows.filter({ hasText: '[100..199]' }).locator('.monaco-tl-twistie').click();
      await rows.filter({ hasText: /^\[199\]/ }).waitFor();
      await picture(page, 'array');

      await workbench.command('View: Toggle Panel Visibility');
      await workbench.goToLine(lineOf('\tpage_address_init();'));
      await workbench.watch('init_task.comm');
      await page.locator('.debug-watch .monaco-list-row', { hasText: '"swapper' }).waitFor();
      await page
        .locator('.view-line span span', { hasText: /^command_line$/ })
        .first()
        .hover();
      await page
        .locator('.debug-hover-widget', { hasText: /0x[0-9a-f]+/ })
        .first()
        .waitFor();
      await picture(page, 'hover');

      await workbench.openScope('General');
      await variable(page, /^x2\b/).dblclick();
      await page.locator('.debug-variables .monaco-inputbox input').fill('0x1234');
      await page.keyboard.press('Enter');
      await variable(page, /^x2.*0x1234$/).waitFor();
      await (await workbench.evaluate('$x2')).filter({ hasText: /4660|0x1234/ }).waitFor();

      await workbench.proceed('F10');
      await stopped(page, 'Step completed');
      await picture(page, 'step');
      await workbench.proceed('F5');
      await page.locator('.debug-toolbar .codicon-debug-pause').waitFor(patience);
      await page.keyboard.press('Shift+F5');
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
  });

  test('the first instruction has no source: it has the focus, registers, disassembly and instruction breakpoints', async () => {
    await inTree('first-instruction', launch(), async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await page.keyboard.press('F5');
      await stopped(page, 'Stopped on entry');
      await variable(page, /^x0\b.*0x/).waitFor();
      await picture(page, 'first-instruction');
      await workbench.command('Open Disassembly View');
      const rows = page.locator('.disassembly-view .monaco-list-row');
      await rows.filter({ has: page.locator('.codicon-debug-stackframe') }).waitFor();
      await picture(page, 'disassembly');
      // The first instruction goes on to the second, a branch over the header; at a click beside it a breakpoint is set.
      const text = (await rows.filter({ has: page.locator('.codicon-debug-stackframe') }).textContent()) ?? '';
      const pc = BigInt(/^\s*(0x[0-9a-f]{8})/.exec(text)?.[1] ?? 0);
      const next = rows.filter({ hasText: `0x${(pc + 4n).toString(16)}` });
      await next.click({ position: { x: 8, y: 8 } });
      await next.locator('.codicon-debug-breakpoint').waitFor();
      await workbench.proceed('F5');
      await stopped(page, /Paused on instruction breakpoint/i);
      await picture(page, 'instruction-breakpoint');
      // The view has the focus: one instruction.
      await workbench.proceed('F10');
      await stopped(page, 'Step completed');
      await frame(page, 'primary_entry').waitFor();
      await page.keyboard.press('Shift+F5');
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
  });

  test('a VM that runs: picked, paused, resumed, left alone', async (context) => {
    const { vm, pid } = await runGuest(adapter, vmm, 0, context);
    const picked = '$' + '{command:kvm.pickVmm}';
    const configuration = { request: 'attach', pid: picked, symbols: '/lab/vmlinux', debugServer: adapter.port };
    await inTree('attach', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await page.keyboard.press('F5');
      // The VMs of the lab are on another machine: the pid is typed.
      const input = page.locator('.quick-input-widget input');
      await input.waitFor();
      await input.fill(`${pid}`);
      await page
        .locator('.quick-input-list .monaco-list-row', { hasText: `${pid}` })
        .first()
        .waitFor();
      await picture(page, 'picker');
      await page.keyboard.press('Enter');
      // Before VS Code knows of threads it ignores the button.
      await frame(page, 'vCPU 1').waitFor(patience);
      await page.locator('.debug-toolbar .codicon-debug-pause').click();
      await page.locator('.debug-toolbar .codicon-debug-continue').waitFor(patience);
      await workbench.openScope('General');
      await variable(page, /^x0\b/).waitFor(patience);
      await picture(page, 'paused');
      await workbench.proceed('F5');
      await page.locator('.debug-toolbar .codicon-debug-pause').waitFor(patience);
      await page.locator('.debug-toolbar .codicon-debug-disconnect').click();
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
    const from = vm.output.length;
    await vm.waitFor(new RegExp(`^[^]{${from}}[^]*GUEST-TICK \\d+[^]*GUEST-TICK \\d+`));
  });

  test('function breakpoint, condition with a mode, hit count, logpoint, data breakpoint, exception filter', async () => {
    await inTree('breakpoints', launch('guest.do=traps'), async (workbench) => {
      const { page } = workbench;
      await page.setViewportSize({ width: 1400, height: 1300 });
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      const [conditional, logged, counted] = [
        lineOf('\tsetup_command_line(command_line);'),
        lineOf('\tsetup_nr_cpu_ids();'),
        lineOf('\tdo_trace_initcall_finish(fn, ret);'),
      ];
      await workbench.breakAtFunction('start_kernel');
      await page.keyboard.press('F5');
      await stopped(page, 'Stopped on entry');
      // Its code is shown, and only then other editors can be.
      await page.locator('.codicon-debug-stackframe').first().waitFor();
      await workbench.openFile('main.c');
      // VS Code knows the modes from the first session on.
      await workbench.breakWhen(conditional, 'Expression', 'init_task.pid == 0', 'Hardware');
      await workbench.breakWhen(logged, 'Log Message', 'here runs {init_task.comm}');
      await workbench.breakWhen(counted, 'Hit Count', '3');
      await workbench.proceed('F5');
      await stopped(page, /Paused on function breakpoint/i);
      await picture(page, 'function-breakpoint');
      await workbench.proceed('F5');
      await badge(page, conditional).waitFor(patience);
      await picture(page, 'condition');

      await workbench.openScope('Variables of main.c');
      await variable(page, /^current_stack_pointer\b/).waitFor();
      // The view scrolls to what is typed.
      await page.keyboard.type('early_boot');
      await variable(page, /^early_boot_irqs_disabled\b/).click({ button: 'right' });
      await workbench.chooseFromMenu('Break on Value Change');
      await workbench.breakpointRow('early_boot_irqs_disabled');
      await workbench.proceed('F5');
      await stopped(page, /Paused on data/i);
      await page.locator('.repl', { hasText: 'here runs "swapper' }).waitFor();
      await picture(page, 'data-breakpoint');
      await workbench.proceed('F5');
      await badge(page, counted).waitFor(patience);
      await (await workbench.evaluate('initcall_level_names')).filter({ hasText: /^\{/ }).waitFor();
      await picture(page, 'hit-count');

      await workbench.command('Remove All Breakpoints');
      await (await workbench.breakpointRow('kprobe')).locator('.monaco-checkbox').click();
      await workbench.proceed('F5');
      await stopped(page, /Paused on kprobe/i);
      await picture(page, 'exception');
      await page.keyboard.press('Shift+F5');
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
  });

  test('the views of a guest: kernel log, page walk, system registers, number format; completion; quiet failures', async (context) => {
    const { pid } = await runGuest(adapter, vmm, 0, context);
    const configuration = { request: 'attach', pid, symbols: '/lab/vmlinux', debugServer: adapter.port };
    await inTree('views', configuration, async (workbench) => {
      const { page } = workbench;
      const editor = (text: string): Locator => page.locator('.editor-instance .view-lines', { hasText: text }).first();
      await page.setViewportSize({ width: 1400, height: 1300 });
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await page.keyboard.press('F5');
      await frame(page, 'vCPU 1').waitFor(patience);
      await page.keyboard.press('F6');
      await page.locator('.codicon-debug-stackframe').first().waitFor(patience);

      await workbench.command('KVM Debug: Show the Kernel Log');
      await page.locator('.tab.active', { hasText: '.dmesg' }).waitFor(patience);
      await editor('Booting').waitFor();
      await picture(page, 'kernel-log');
      await workbench.command('KVM Debug: Translate an Address…');
      await page.locator('.quick-input-title', { hasText: 'Translate an Address' }).waitFor();
      await page.locator('.quick-input-widget input').fill('&jiffies');
      await page.keyboard.press('Enter');
      await page.locator('.tab.active', { hasText: 'Page Walk' }).waitFor(patience);
      await editor('Physical address').waitFor();
      await picture(page, 'page-walk');

      await workbench.openScope('System');
      await variable(page, /^translation/i).click();
      await variable(page, /^ttbr1_el1\b.*0x/).waitFor();
      await picture(page, 'system-registers');

      await workbench.watch('init_task.prio');
      const watched = page.locator('.debug-watch .monaco-list-row');
      await watched.filter({ hasText: /120$/ }).waitFor();
      await workbench.command('KVM Debug: Show Numbers in Hexadecimal or Decimal');
      await watched.filter({ hasText: /0x78$/ }).waitFor();
      await workbench.watch('no_such_thing');
      await watched.filter({ hasText: /There is no symbol/ }).waitFor();
      assert.equal(await page.locator('.monaco-dialog-box, .notification-toast').count(), 0);

      const suggested = (name: string): Locator =>
        page.locator('.suggest-widget .monaco-list-row', { hasText: name }).first();
      await workbench.typeInConsole('$x2');
      await suggested('$x29').waitFor();
      await page.keyboard.type('9 + init_tas');
      // What VS Code asked for behind the first letters need not hold this name.
      await page.keyboard.press('Control+Space');
      await suggested('init_task').waitFor();
      await page.keyboard.type('k.thread_pi');
      await suggested('thread_pid').waitFor();
      await picture(page, 'completion');
      await page.keyboard.press('Escape');
      await page.keyboard.press('Shift+F5');
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
  });

  test('without symbols the code stands in for the source; a VMM that dies ends the session, which says why', async () => {
    const configuration = { ...launch('guest.do=ticks guest.ticks=100'), symbols: undefined };
    await inTree('no-symbols', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.goToLine(lineOf('\tboot_cpu_init();'));
      await workbench.clickGutter(lineOf('\tboot_cpu_init();'));
      await page.keyboard.press('F5');
      await stopped(page, 'Stopped on entry');
      await page.locator('.tab.active', { hasText: '(disassembly)' }).waitFor();
      await page.locator('.repl', { hasText: 'Without symbols there are no names' }).waitFor();
      // Why the breakpoint is hollow is said beside it.
      await page.locator('.tab', { hasText: 'main.c' }).click();
      await page.locator('.codicon-debug-breakpoint-unverified').first().hover();
      await page.locator('.monaco-hover', { hasText: 'There are no symbols' }).first().waitFor();
      await picture(page, 'unverified');
      await workbench.proceed('F10');
      await stopped(page, 'Step completed');
      await workbench.proceed('F5');
      await page.locator('.repl', { hasText: 'GUEST-TICK 1' }).waitFor(patience);
      await page.keyboard.press('F6');
      await frame(page, '0x').waitFor(patience);
      await variable(page, /^x0\b.*0x/).waitFor();
      await picture(page, 'no-symbols');
      await adapter.lab.run(`kill -9 $(pidof ${vmm === 'kvmtool' ? 'lkvm' : 'qemu-system-aarch64'})`);
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
      await page.locator('.repl', { hasText: 'The VMM was ended by signal 9' }).waitFor();
      await picture(page, 'vmm-died');
    });
  });

  test("a VM that another session has, or that is not the user's to trace, is refused in a sentence", async (context) => {
    const { pid } = await runGuest(adapter, vmm, 0, context);
    for (const [name, uid, text] of [
      ['second-session', undefined, /is traced by process \d+ already; end that debugger/],
      ['no-permission', 1000, /Not allowed to .*CAP_SYS_PTRACE/],
    ] as const) {
      const other = await adapter.another({ uid });
      context.after(() => other.kill());
      const configuration = { request: 'attach', pid, symbols: '/lab/vmlinux' };
      await session(adapter, async (user) => {
        if (uid === undefined) await user.begin('attach', { type: 'kvm', ...configuration });
        await inTree(name, { ...configuration, debugServer: other.port }, async (workbench) => {
          const { page } = workbench;
          await workbench.openFile('main.c');
          await workbench.debuggersReady();
          await page.keyboard.press('F5');
          const dialog = page.locator('.monaco-dialog-box', { hasText: text });
          await dialog.waitFor(patience);
          await picture(page, name);
        });
        if (uid === undefined) await user.leave(false);
      });
      await other.kill();
    }
  });

  test('what is wrong in launch.json is named, with the remedy', async () => {
    await inTree('wrong', { ...launch(), cpus: 0 }, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await page.keyboard.press('F5');
      const dialog = page.locator('.monaco-dialog-box', { hasText: /cpus/ });
      await dialog.waitFor();
      await picture(page, 'wrong');
      assert.match((await dialog.textContent()) ?? '', /cpus.*(1|512)/);
    });
  });
});
