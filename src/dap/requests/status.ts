import { guestOf, type Handler } from '../context.ts';

export const status: Handler = (_args, context) => {
  const { status } = guestOf(context);
  const { body } = status;
  // Not before: an event that overtook the response would be taken for the older news.
  context.afterResponse(() => status.follow(body));
  return body;
};
