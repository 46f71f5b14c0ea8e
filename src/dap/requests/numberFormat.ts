// How numbers are shown: in the whole session, or with the protocol's ValueFormat in the answer to one request.
import type { Radix } from '../../symbols/format.ts';
import type { Handler, RequestContext } from '../context.ts';
import type { Fields } from '../fields.ts';

export const numberFormat: Handler = (args, { client, afterResponse }) => {
  const radix = args.oneOf('radix', ['hexadecimal', 'decimal', 'default']);
  client.features.radix = radix === 'default' ? undefined : radix;
  afterResponse(() => {
    if (client.features.invalidatedEvent) client.event('invalidated', { areas: ['variables'] });
  });
  return { radix };
};

/** The radix that the answer to a request is to be in. */
export const radixOf = (args: Fields, { client }: RequestContext): Radix | undefined =>
  args.object('format').boolean('hex') ? 'hexadecimal' : client.features.radix;
