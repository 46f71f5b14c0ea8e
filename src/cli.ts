#!/usr/bin/env node
// The package's command: what the debugger knows of an image, for people and for tests.
import packageJson from '../package.json' with { type: 'json' };
import { runCommand } from './command/run.ts';

// A reader that went away, such as `head`, is no error.
process.stdout.on('error', () => process.exit(0));

runCommand(process.argv.slice(2), packageJson.version, {
  out: (text) => process.stdout.write(text),
  error: (text) => process.stderr.write(text),
}).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`bug: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  },
);
