import type { ProxyFailure } from '../errors.js';
import type { ClientConnection } from './client-connection.js';
import { echo } from './echo.js';
import { answerLine } from './elsewhere.js';
import { giveAway, type HandedRequest, place, type Siblings } from './hand-over.js';
import { connectAnswers } from './http-connect.js';
import { type Answers, type ListenerContext, openDestination } from './open-destination.js';
import { socksAnswers } from './socks5.js';
import { openAssociation } from './udp-associate.js';

/**
 * Serves what another worker has handed over, as if it had been read here: the login is checked again, since what it may
 * do is known to each worker by itself. `refusal`: it can not be served, and is told so.
 */
export async function serveHanded(
  client: ClientConnection,
  request: HandedRequest,
  context: ListenerContext,
  refusal: ProxyFailure | null,
): Promise<void> {
  const { asks, credentials, tried, devicesLeft, stays } = request;
  client.stopDeadline();
  const answers = answersTo(request);
  const login = refusal ?? (await context.login(client.peer, credentials, { tried, devicesLeft, stays }));
  if (client.closed) return;
  if (!login.ok) {
    context.refused(client.peer, login);
    return client.refuse(answers.refuse(login));
  }
  if ('associate' in asks) return openAssociation(client, context, login, asks.associate);
  if ('destination' in asks) return openDestination(client, context, login, asks.destination, answers);
  const { pipeline, siblings } = context;
  const answer = await place(login, siblings, (attempts) => echo(pipeline, login, asks.echo, attempts));
  if (answer.ok !== 'elsewhere') return client.refuse(answerLine(answer));
  await giveAway(client, siblings as Siblings, login, answer, request);
}

function answersTo({ asks, requestId }: HandedRequest): Answers {
  if ('associate' in asks) return socksAnswers;
  if ('echo' in asks) return workerAnswers;
  switch (asks.answer) {
    case 'socks5':
      return socksAnswers;
    case 'connect':
      return connectAnswers(requestId);
    case 'worker':
      return workerAnswers;
  }
}

const workerAnswers: Answers = {
  answer: 'worker',
  requestId: '',
  accept: (exit) => answerLine({ ok: true, exit } as { ok: true }),
  refuse: answerLine,
};
