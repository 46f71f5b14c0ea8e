// Takes the place of dist/adapter.js in the extension that a suite runs in.
import { join } from 'node:path';
import { ScriptedAdapter } from '../scriptedAdapter.ts';

// The extension starts the adapter in the workspace folder.
ScriptedAdapter.onStreams(join(process.cwd(), 'init/main.c'), process.stdin, process.stdout);
process.stdin.once('end', () => process.exit(0));
