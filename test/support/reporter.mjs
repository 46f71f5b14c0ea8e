// Node loads reporters before `--import tsx` is in force, so this one brings tsx along.
import { register } from 'tsx/esm/api';

register();
export default (await import('./reporter.ts')).default;
