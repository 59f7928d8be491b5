import type { InlineKeyboardButton } from 'grammy/types';

/** What the server answers: HTTP status and JSON. */
export interface Answer {
  status: number;
  body: object;
}

export const good = (result: unknown): Answer => ({ status: 200, body: { ok: true, result } });
export const bad = (status: number, description: string): Answer => ({
  status,
  body: { ok: false, error_code: status, description },
});

/** A message in a chat, as it is now. */
export interface ChatMessage {
  id: number;
  chatId: number;
  text: string;
  photo: Uint8Array | null;
  buttons: InlineKeyboardButton[];
  silent: boolean;
  /** When it was sent and each time it was changed, ms (monotonic). */
  timesMs: number[];
}

type Fields = Record<string, unknown>;

/** Lengths the Bot API takes. */
const TEXT_MAX = 4_096;
const CAPTION_MAX = 1_024;
const CALLBACK_DATA_BYTES_MAX = 64;

/** Chats of a bot: sending and changing messages with buttons and pictures, refused as the Bot API documents. */
export class TelegramChats {
  readonly #messages = new Map<number, ChatMessage[]>();
  /** Who blocked the bot. */
  readonly blockedBy = new Set<number>();
  #nextId = 1;

  /** Messages of a chat, oldest first. */
  of(chatId: number): ChatMessage[] {
    return this.#messages.get(chatId) ?? [];
  }

  newId(): number {
    return this.#nextId++;
  }

  /** Messages in all chats. */
  get count(): number {
    return [...this.#messages.values()].reduce((sum, list) => sum + list.length, 0);
  }

  /** A method of messages, or null: it is none. */
  call(method: string, fields: Fields): Answer | null {
    switch (method) {
      case 'sendMessage':
        return this.#send(fields, { text: String(fields.text ?? ''), photo: null });
      case 'sendPhoto':
        return this.#send(fields, {
          text: String(fields.caption ?? ''),
          photo: fileOf(fields, fields.photo),
        });
      case 'editMessageText':
        return this.#edit(fields, { text: String(fields.text ?? ''), photo: null });
      case 'editMessageMedia': {
        const media = parsed(fields.media) as { media?: string; caption?: string };
        return this.#edit(fields, { text: media.caption ?? '', photo: fileOf(fields, media.media) });
      }
      default:
        return null;
    }
  }

  #send(fields: Fields, content: { text: string; photo: Uint8Array | null }): Answer {
    const chatId = Number(fields.chat_id);
    if (this.blockedBy.has(chatId)) return bad(403, 'Forbidden: bot was blocked by the user');
    const refused = checked(fields, content);
    if (refused !== null) return refused;
    const message: ChatMessage = {
      id: this.newId(),
      chatId,
      ...content,
      buttons: buttonsOf(fields),
      silent: String(fields.disable_notification) === 'true',
      timesMs: [performance.now()],
    };
    this.#messages.set(chatId, [...this.of(chatId), message]);
    return good(messageJson(message));
  }

  #edit(fields: Fields, content: { text: string; photo: Uint8Array | null }): Answer {
    const message = this.of(Number(fields.chat_id)).find(({ id }) => id === Number(fields.message_id));
    if (message === undefined) return bad(400, 'Bad Request: message to edit not found');
    const refused = checked(fields, content);
    if (refused !== null) return refused;
    if (content.photo === null && message.photo !== null)
      return bad(400, 'Bad Request: there is no text in the message to edit');
    const buttons = buttonsOf(fields);
    const same =
      content.text === message.text &&
      JSON.stringify(buttons) === JSON.stringify(message.buttons) &&
      Buffer.compare(content.photo ?? Buffer.alloc(0), message.photo ?? Buffer.alloc(0)) === 0;
    if (same)
      return bad(
        400,
        'Bad Request: message is not modified: specified new message content and reply markup are exactly the same ' +
          'as a current content and reply markup of the message',
      );
    Object.assign(message, { ...content, buttons });
    message.timesMs.push(performance.now());
    return good(messageJson(message));
  }
}

function messageJson({ id, chatId, text, photo }: ChatMessage): object {
  return {
    message_id: id,
    date: Math.floor(Date.now() / 1000),
    chat: { id: chatId, type: chatId < 0 ? 'channel' : 'private' },
    ...(photo === null ? { text } : { caption: text, photo: [] }),
  };
}

/** Fields of a multipart call are texts, and JSON in texts. */
const parsed = (value: unknown): unknown => (typeof value === 'string' ? JSON.parse(value) : value);

function buttonsOf(fields: Fields): InlineKeyboardButton[] {
  const markup = parsed(fields.reply_markup) as { inline_keyboard?: InlineKeyboardButton[][] } | undefined;
  return markup?.inline_keyboard?.flat() ?? [];
}

/** A picture that came as a part of the call: `attach://<name of the part>`. */
function fileOf(fields: Fields, value: unknown): Uint8Array | null {
  const name = /^attach:\/\/(.+)$/.exec(String(value))?.[1];
  const part = name === undefined ? value : fields[name];
  return part instanceof Uint8Array ? part : null;
}

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47]);

function checked(fields: Fields, { text, photo }: { text: string; photo: Uint8Array | null }): Answer | null {
  const hasPhoto = 'photo' in fields || 'media' in fields;
  if (hasPhoto && (photo === null || !Buffer.from(photo.subarray(0, 4)).equals(PNG)))
    return bad(400, 'Bad Request: IMAGE_PROCESS_FAILED');
  if (!hasPhoto && text === '') return bad(400, 'Bad Request: message text is empty');
  if (text.length > (hasPhoto ? CAPTION_MAX : TEXT_MAX)) return bad(400, 'Bad Request: message is too long');
  for (const button of buttonsOf(fields)) {
    if (button.text === '') return bad(400, 'Bad Request: inline keyboard button text must be non-empty');
    if ('callback_data' in button && Buffer.byteLength(button.callback_data) > CALLBACK_DATA_BYTES_MAX)
      return bad(400, 'Bad Request: BUTTON_DATA_INVALID');
  }
  return null;
}
