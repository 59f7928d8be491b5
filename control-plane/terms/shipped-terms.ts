import type { Language } from '../users/users.js';
import type { TermsText } from './terms.js';

/**
 * The terms that the program brings along: what sharing is, said to the person whose device it is. Shown for a version
 * that has no text of its own (`PUT /api/admin/terms/{version}`).
 */
export const SHIPPED_TERMS: Readonly<Record<Language, TermsText>> = {
  en: {
    title: 'What sharing with Traffic Share means',
    body: `You let other people's connections leave through this device. While you share, customers of Traffic Share reach websites and services on the internet through your connection, and those see your IP address. You are paid for the bytes that pass.

What you promise. The device and its connection are yours, or whoever they belong to agrees. Your contract with your internet provider allows it. You are of age. You do not share from a network of your employer, school or landlord without their consent.

What it costs you. Data volume of your connection (set a cap when it is limited), some power, and some of its speed. Somebody may take your address for the origin of what a customer does; then write to support, we know which customer it was.

What we do about abuse. Customers are checked, and named in our records. Mail, file sharing ports and your own local network are out of reach for them. We keep which hosts were reached through your device, when, and how many bytes, for up to 90 days, to answer reports of abuse. We never look into the content.

What we keep about you. Your Telegram id, the addresses your device shared from, its type and version, your balance and payouts, and that you accepted these terms.

You stay in charge. Pause or stop at any time; what is open is cut at once. Set caps, hours, and hosts that nobody may reach. See what went through you. Withdraw your consent at any time, in the app, in the bot, or with "traffic-share agent consent withdraw": every device of yours stops at once. What you earned stays yours.`,
  },
  ru: {
    title: 'Что значит делиться трафиком в Traffic Share',
    body: `Вы разрешаете чужим соединениям выходить в интернет через это устройство. Пока вы делитесь, клиенты Traffic Share открывают сайты и сервисы через ваше подключение, и там виден ваш IP-адрес. Вам платят за прошедшие байты.

Что вы подтверждаете. Устройство и подключение ваши, или их владелец согласен. Договор с вашим провайдером это допускает. Вы совершеннолетний. Вы не делитесь из сети работодателя, учебного заведения или арендодателя без их согласия.

Чего это вам стоит. Трафика вашего подключения (если он ограничен, задайте лимит), немного электричества и скорости. Ваш адрес могут принять за источник действий клиента; тогда напишите в поддержку: мы знаем, какой это был клиент.

Что мы делаем против злоупотреблений. Клиенты проверены, и в наших записях указано, кто они. Почта, порты файлообмена и ваша локальная сеть для них недоступны. До 90 дней мы храним, к каким хостам обращались через ваше устройство, когда и сколько байт прошло, чтобы отвечать на жалобы. Содержимое мы не смотрим никогда.

Что мы храним о вас. Ваш Telegram id, адреса, с которых делилось устройство, его тип и версию, баланс и выплаты, и то, что вы приняли эти условия.

Решаете вы. Пауза и остановка в любой момент: открытые соединения обрываются сразу. Задайте лимиты, часы и хосты, к которым никто не обратится. Смотрите, что через вас прошло. Согласие можно отозвать в любой момент в приложении, в боте или командой "traffic-share agent consent withdraw": все ваши устройства сразу остановятся. Заработанное остаётся вашим.`,
  },
  uz: {
    title: 'Traffic Share’da trafik ulashish nimani anglatadi',
    body: `Siz boshqalarning ulanishlari shu qurilma orqali internetga chiqishiga ruxsat berasiz. Ulashib turganingizda Traffic Share mijozlari sayt va xizmatlarga sizning ulanishingiz orqali kiradi, va u yerda sizning IP-manzilingiz ko‘rinadi. O‘tgan baytlar uchun sizga to‘lanadi.

Siz nimani tasdiqlaysiz. Qurilma va ulanish sizniki, yoki egasi rozi. Provayderingiz bilan shartnoma bunga yo‘l qo‘yadi. Siz voyaga yetgansiz. Ish beruvchi, o‘quv yurti yoki ijara beruvchining tarmog‘idan ularning roziligisiz ulashmaysiz.

Bu sizga nimaga tushadi. Ulanishingiz trafigi (cheklangan bo‘lsa, chegara qo‘ying), biroz elektr va tezlik. Manzilingizni mijoz harakatlarining manbai deb o‘ylashlari mumkin; unda yordam xizmatiga yozing: qaysi mijoz bo‘lganini bilamiz.

Suiiste’molga qarshi nima qilamiz. Mijozlar tekshirilgan, kimligi yozuvlarimizda bor. Pochta, fayl almashish portlari va mahalliy tarmog‘ingiz ular uchun yopiq. Shikoyatlarga javob berish uchun qurilmangiz orqali qaysi hostlarga, qachon va necha bayt o‘tganini 90 kungacha saqlaymiz. Mazmunini hech qachon ko‘rmaymiz.

Siz haqingizda nimani saqlaymiz. Telegram id, qurilma ulashgan manzillar, uning turi va versiyasi, balans va to‘lovlar, hamda shu shartlarni qabul qilganingiz.

Boshqaruv sizda. Istalgan payt pauza qiling yoki to‘xtating: ochiq ulanishlar darhol uziladi. Chegara, soatlar va hech kim kira olmaydigan hostlarni belgilang. Siz orqali nima o‘tganini ko‘ring. Rozilikni istalgan payt ilovada, botda yoki "traffic-share agent consent withdraw" buyrug‘i bilan qaytarib oling: barcha qurilmalaringiz darhol to‘xtaydi. Ishlab topganingiz sizda qoladi.`,
  },
};
