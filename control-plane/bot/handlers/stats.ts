import { Composer } from 'grammy';
import type { Clock } from '../../../gateway/runtime/clock.js';
import { formatMicros, parseMicros } from '../../ledger/money.js';
import { dollars, gigabytes } from '../../texts/words.js';
import { series } from '../../traffic/statistics.js';
import { chartSvg } from '../chart.js';
import { drawPng } from '../chart-painter.js';
import type { BotContext, BotPart } from '../context.js';
import { countOne } from '../guests.js';
import { forUsers } from './who.js';

/** Days each period counts, and days its chart shows. */
const PERIODS = {
  day: { days: 1, shown: 7, title: 'stats-day' },
  week: { days: 7, shown: 7, title: 'stats-week' },
  month: { days: 30, shown: 30, title: 'stats-month' },
} as const;
type Period = keyof typeof PERIODS;

/** `/stats`: traffic and earnings of a day, a week, a month, with a chart; buttons change between them. */
export function statsPart({ clock }: { clock: Clock }): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');

  async function draw(ctx: BotContext, userId: string, period: Period, telegramId: number) {
    if ((await countOne(ctx.db, telegramId, 'chart')).over) return null;
    const { days, shown, title } = PERIODS[period];
    const points = await series(ctx.db, userId, 'daily', shown, clock.nowMs());
    const counted = points.slice(-days);
    const earned = counted.reduce((total, point) => total + (parseMicros(point.earned) ?? 0n), 0n);
    const photo = await drawPng(
      chartSvg(
        points.map(({ from, bytes }) => ({ day: from, value: Number(bytes) / 1e9 })),
        { strong: days },
      ),
    );
    const text = ctx.t('stats-caption', {
      period: ctx.t(title),
      gigabytes: gigabytes(counted.reduce((total, point) => total + BigInt(point.bytes), 0n)),
      earned: dollars(formatMicros(earned)),
      sessions: counted.reduce((total, point) => total + point.sessions, 0),
    });
    const keyboard = [
      (Object.keys(PERIODS) as Period[])
        .filter((other) => other !== period)
        .map((other) => ({ text: ctx.t(PERIODS[other].title), callback_data: `stats:${other}` })),
    ];
    return { text, photo, keyboard };
  }

  chat.command(
    'stats',
    forUsers(async (ctx, user) => {
      const drawn = await draw(ctx, user.id, 'week', ctx.from.id);
      if (drawn === null) return ctx.say(ctx.t('slow-down'));
      ctx.say(drawn.text, drawn);
    }),
  );

  chat.callbackQuery(
    /^stats:(day|week|month)$/,
    forUsers(async (ctx, user) => {
      const drawn = await draw(ctx, user.id, ctx.match[1] as Period, ctx.from.id);
      if (drawn === null) return ctx.answer(ctx.t('slow-down'));
      ctx.edit(drawn.text, drawn);
    }),
  );
  return part;
}
